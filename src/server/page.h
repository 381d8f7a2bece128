/* page.h - the web page: its files, which are compiled into the program, as answers to GET.
 *
 * The document has the address "/", the files that it takes have "/page/HASH/NAME", HASH being of all
 * their bytes: they may be kept for ever, since another program has other addresses. The document is
 * asked for again each time, which costs a 304 while its ETag holds. */
#ifndef SLM_SERVER_PAGE_H
#define SLM_SERVER_PAGE_H

#include <stdbool.h>
#include <stddef.h>

struct page; /* constant once open: any number of threads may look into it */

struct page_file {
    const char *type;  /* Content-Type */
    const char *cache; /* Cache-Control */
    const char *etag;  /* with its quotes */
    const void *data;  /* [n] */
    size_t n;
};
/* Headers that go with every file of the page, and with its 304s and 404s: what the browser must not
 * do for it. Ended by a NULL name. */
struct page_header {
    const char *name, *value;
};
extern const struct page_header page_headers[];

/* Returns owned; NULL without memory. */
struct page *page_open(void);
void page_close(struct page *page); /* NULL allowed */
/* What has that path ("/", "/page/..."); false: nothing. Everything in *out lives as long as the page. */
bool page_find(const struct page *page, const char *path, struct page_file *out);
/* Does a request's If-None-Match (NULL: it has none) name that ETag? Then 304 is the answer. */
bool page_fresh(const struct page_file *file, const char *if_none_match);

#endif
