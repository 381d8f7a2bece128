/* page_blob.S - the files of the web page (src/server/page/), as they are, in read-only memory.
 * page.c declares these symbols. */

    .section .rodata
.macro embed name, file
    .balign 16
    .globl page_\name
    .hidden page_\name
    .globl page_\name\()_end
    .hidden page_\name\()_end
page_\name:
    .incbin "src/server/page/\file"
page_\name\()_end:
    .byte 0
.endm

    embed index, index.html
    embed style, style.css
    embed icon, icon.svg
    embed app, app.js
    embed chats, chats.js
    embed client, client.js
    embed dom, dom.js
    embed markdown, markdown.js
    embed messages, messages.js
    embed models, models.js
    embed pictures, pictures.js
    embed settings, settings.js
    embed sse, sse.js
    embed theme, theme.js

#if defined(__linux__) && defined(__ELF__)
    .section .note.GNU-stack, "", %progbits
#endif
