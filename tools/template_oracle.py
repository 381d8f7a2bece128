#!/usr/bin/env python3
"""Makes the cases of tests/data/chat/ with the real Jinja, set up as Hugging Face's
apply_chat_template does, so that the C interpreter is held against the original.

  template_oracle.py                    rewrites tests/data/chat/*.json
  template_oracle.py --random N SEED    N random cases as one JSON array on stdout; run them with
                                        SLM_CHAT_CASES=FILE build/tests/test_chat_cases

Needs python3-jinja2. A case is {"t": template, "c": variables, "want": text} or, where Jinja
raises an error, {"t", "c", "fails": kind of error}; the words of errors are our own."""
import datetime
import json
import os
import random
import sys
import warnings

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "chat")
warnings.simplefilter("ignore")
NOW = datetime.datetime(2025, 7, 8, 15, 4, 5)


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda fmt: NOW.strftime(fmt)
    return env


ENV = environment()


def case(template, context):
    out = {"t": template, "c": context}
    try:
        out["want"] = ENV.from_string(template).render(**json.loads(json.dumps(context)))
    except Exception as e:  # any error of Python inside the template is the template's error
        out["fails"] = type(e).__name__
    return out


C = {
    "s": "Hello, World", "empty": "", "u": "naïve café — 你好 🙂", "sp": "  \t pad\n ded \u00a0",
    "n": 7, "neg": -3, "z": 0, "f": 2.5, "big": 9007199254740993, "yes": True, "no": False,
    "nil": None, "l": [3, 1, 2], "words": ["apple", "Banana", "cherry", "apple"],
    "d": {"b": 1, "a": 2, "C": [1, {"x": None}]}, "e": [], "ed": {},
    "msgs": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi\n"},
             {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
             {"role": "tool", "content": "21"}, {"role": "user", "content": None}],
    "tool": {"type": "function", "function": {"name": "get", "description": "It's \"quoted\" <b> & ü\n", "parameters": {"type": "object", "properties": {"items": {"type": "array"}, "x": {"type": ["string", "null"], "default": 1.0}}, "required": []}}},
}

WHITESPACE = [
    "a\n  {% if yes %}\n  b\n  {% endif %}\nc\n", "a {%- if yes -%} b {%- endif -%} c",
    "{% if yes %}\nx\n{% endif %}\n", "{% if yes -%}\n\n x{% endif %}", "  {{ n }}  \n", "  {{- n -}}  \n",
    "x\n\n  {%- set a = 1 %}\n\ny", "x\n  {%+ if yes %}y{% endif %}", "x{% if yes +%}\ny{% endif %}",
    "a\n {# c #}\nb", "a {#- c -#} b", "a\n{#+ c #}\nb", "{# {{ no }} #}x", "{#\n\n#}\nx", "a{# - #}b",
    "{% raw %}{{ x }}{% y %}{# z #}{% endraw %}", "a\n  {% raw %}\n  {{ x }}\n  {% endraw %}\nb",
    "{%- raw -%}  {{ x }}  {%- endraw -%} b", "a {% raw +%} b {% endraw %}", "{% raw -%}\n  x\n{% endraw -%}\n y",
    "a\r\nb\rc\n", "a\r\n{% if yes %}\r\nb{% endif %}\r\n", "\n\n", "a\n\n", "\n", "", "x", "{{ 'a\r\nb' }}",
    "{{'}}'}}", "{{ {'a': {'b': 1}} }}", "{% set x = {'a': '%}'} %}{{ x }}", "{{ '{{' }}", "{ { } }", "{{ n}}{{n }}",
    "\u00a0{%- if yes %}x{% endif -%}\u2003y", "  \u00a0{% if yes %}x{% endif %}", "{{ n }}\n{% if yes %}x{% endif %}\n  {% if yes %}y{% endif %}",
    "   {% if yes %}   {% if yes %}x{% endif %}   {% endif %}   ", "a   {% if yes %}b{% endif %}", "\t{% set a = 1 %}\t{% set a = 1 %}z",
    "{{-1}}", "{{+1}}", "{{- 1 }}", "{% for x in l %}\n{{ x }}\n{% endfor %}\n", "{% for x in l -%}\n{{ x }},\n{%- endfor %}",
    "{% if yes %}a{% else %}\nb{% endif %}\n\nc", "{%if yes%}a{%endif%}", "{%\nif\nyes\n%}a{%\nendif\n%}",
]

EXPRESSIONS = [
    "1 + 2 * 3", "(1 + 2) * 3", "7 // 2", "-7 // 2", "7 % 3", "-7 % 3", "7 % -3", "7 / 2", "6 / 2", "2 ** 10", "2 ** -1", "-2 ** 2",
    "2 ** 3 ** 2", "1 - 2 - 3", "7.5 // 2", "-7.5 // 2", "7.5 % 2", "-7.5 % 2", "7.5 % -2", "1e3", "1.5e-7", "1e16", "1e15", "123456789.123456789", "0.1 + 0.2",
    "1e22", "1e-4", "1e-5", "1.0", "100.0", "2.5e300 * 1e10", "1 / 3", "0.0", "-0.0", "5e-324", "1.7976931348623157e308", "1_000", "0x1F", "0b101", "0o17", "00",
    "1 / 0", "1 // 0", "1 % 0", "1.0 / 0", "true + 1", "true * 3", "-true", "+n", "- -n", "--n", "1 == 1.0", "true == 1", "'1' == 1", "none == false",
    "1 < 2 < 3", "1 < 3 < 2", "3 > 2 > 1 > 0", "1 < 2 > 1", "n == 7 == true", "'a' < 'b'", "'a' < 'B'", "[1,2] < [1,3]", "(1,2) < (1,)", "1 < 'a'", "none < 1",
    "'ell' in s", "'x' not in s", "1 in l", "5 in l", "'a' in d", "'zz' in d", "1 in 'abc'", "'' in ''", "3 in (1,2,3)", "2 in range(3)", "[1] in [[1]]",
    "not yes", "not no", "not not yes", "yes and no", "yes or no", "no or 'x'", "'' or 'y'", "n and 'z'", "z and 1/0", "n or 1/0", "not n == 7", "not 'a' in d", "1 if yes", "1 if no", "1 if yes else 2",
    "1 if no else 2 if no else 3", "'a' if no else 'b' if yes else 'c'", "(1 if no) is defined", "1 if yes else 1/0", "[1 if yes else 2, 3]",
    "'a' ~ 1 ~ none ~ 2.0 ~ true", "'a' + 'b'", "'a' + 1", "1 + 'a'", "'ab' * 3", "3 * 'ab'", "'ab' * 0", "'ab' * -1", "[1] * 3", "[1] + [2]", "(1,) + (2,)", "[1] + (2,)", "'a' ~ 'b' + 'c' ~ 'd'",
    "1 ~ 2 * 3", "1 + 1 ~ 2", "'x' ~ [1, 'a', none]", "l[0]", "l[-1]", "l[5]", "l[-4]", "s[0]", "s[-1]", "s[100]", "u[3]", "u[-1]", "u[-2:]", "d['a']", "d['q']", "d.a", "d.q", "d.C[1].x", "d.C.1.x", "l.0",
    "s[1:4]", "s[:-1]", "s[::2]", "s[::-1]", "u[::-1]", "u[2:6]", "s[10:2]", "s[5:1:-1]", "s[-3:]", "s[:]", "l[1:]", "l[::-1]", "l[:1]", "l[-2:]", "l[10:]", "(1,2,3)[1:]", "l[::0]", "s[0:100]", "s[-100:3]", "l['a']", "d[0]",
    "u[::-2]", "u[7:1:-3]", "'abc'[2:0:-1]", "'abc'[::-5]", "'abc'[9223372036854775807:]", "'abc'[:-9223372036854775807]", "'abc'[::9223372036854775807]", "'abc'[::-9223372036854775807]",
    "[1, 'two', 3.0, none, true]", "(1, 2)", "(1,)", "()", "[]", "{}", "{'a': 1, 'b': [2]}", "{1: 2, none: 3, true: 4}", "{'a': 1, 'a': 2}", "{1: 'a', 1.0: 'b'}", "{(1,2): 3}", "{[1]: 2}", "1, 2", "1,", "[1, 2,]", "{'a': 1,}",
    "'a' 'b' \"c\"", "'it''s'", r"'a\nb\tc\\d\'e\"'", r"'\x41\u00e9\U0001F642\101\0'", r"'\q\d'", r"'a\
b'", "'a\nb'", "\"it's\"", "s.upper", "nope", "nope.x", "nope['x']", "nope()", "nope + 1", "nope ~ 'x'", "-nope", "nope == nope", "nope == none", "nope < 1", "nope in 'abc'", "'a' in nope", "1 in nope", "nope[1:]", "nope|length",
    "d.nope.x", "d.nope", "d.nope is defined", "msgs[0].role", "msgs[9]", "msgs[9].role", "msgs[-1]['content']", "s.nope", "n.nope", "nil.x", "nil['x']", "l.nope", "9223372036854775807 + 0", "1 and 2 or 3", "0 or none or ''",
    "1.", ".5", "1 +", "(1", "1)", "[1", "{1}", "1 2", "a b", "'abc", "1 = 2", "a..b", "a.", "a[", "a[]", "not", "x|", "x is", "|upper", "1 ++ 2", "1 if", "1 if yes else", "@", "a ? b", "a;b", "!x", "a && b",
    "3 * [1, 2]", "'%' ~ 5", "s == 'Hello, World'", "l == [3,1,2]", "d == {'a': 2, 'b': 1, 'C': [1, {'x': none}]}", "(1,2) == [1,2]", "range(3)", "range(1, 10, 3)", "range(3)|list", "range(5, 0, -2)|list", "range(0)|list", "range(2, 2)|list", "range(3)[1]", "range(3)[5]", "range(1,2,0)", "range('a')", "range()",
    "range(100001)|length", "range(100000)|length", "dict(a=1, b=2)", "dict({'a': 1}, b=2)", "dict([('a', 1)])", "namespace(a=1).a", "namespace({'a': 1}).a", "namespace()", "namespace(a=1)", "1 is odd == true", "n is odd and z is even", "big", "big + 1", "-9223372036854775807", "9007199254740993 == 9007199254740992.0", "9007199254740993 > 9007199254740992.0",
]

METHODS = [
    "sp.strip()", "sp.lstrip()", "sp.rstrip()", "'xxaxx'.strip('x')", "'xyaxy'.strip('yx')", "'abc'.lstrip('ab')", "'abc'.rstrip('bc')", "'\\n\\na\\n'.strip('\\n')", "'aéb'.strip('bé')", "'a'.strip('')", "'x'.strip(none)", "'x'.strip(1)",
    "s.split(',')", "s.split()", "'a  b c'.split()", "'a  b c'.split(' ')", "'a,b,c'.split(',', 1)", "'a b c'.split(none, 1)", "'  a b  c '.split(none, 1)", "' a '.split(none, 0)", "'a,b,c'.rsplit(',', 1)", "' a b c '.rsplit(none, 1)", "''.split()", "''.split(',')", "'abc'.split('')", "'aXXbXX'.split('XX')", "'a,b'.split(sep=',')", "'a,b,c'.split(',', maxsplit=1)", "'a b'.rsplit()", "'a--b--c'.rsplit('--')", "'</think>x'.split('</think>')[-1]",
    "'a\\nb\\r\\nc\\rd\\u2028e'.splitlines()", "'a\\nb\\n'.splitlines(true)", "''.splitlines()", "'\\n'.splitlines()", "'a\\n\\nb'.splitlines()", "s.startswith('Hello')", "s.startswith('x')", "s.endswith('World')", "s.endswith(('x', 'ld'))", "s.startswith(())", "s.startswith('ell', 1)", "s.endswith('Hell', 0, 4)", "s.startswith(1)", "''.startswith('')",
    "s.replace('l', 'L')", "s.replace('l', 'L', 2)", "'aaa'.replace('', '-')", "'aaa'.replace('a', '')", "'éé'.replace('', '.')", "'aaaa'.replace('aa', 'b')", "'abc'.replace('', '-', 2)", "s.replace('l')", "s.replace(1, 2)",
    "s.upper()", "s.lower()", "'hELLO wORLD'.title()", "'hELLO'.capitalize()", "'ß straße ŉ ﬁ'.upper()", "'ΑΣ ΣΑΣ Σ'.lower()", "'İ'.lower()", "'ǆ'.title()", "'ǆ'.upper()", "\"it's o'clock 3rd\".title()", "'aB'.swapcase()", "'ÀÉ'.lower()", "'ßa'.capitalize()", "'ﬁx'.title()",
    "s.find('o')", "s.find('o', 5)", "s.find('zz')", "u.find('é')", "s.rfind('o')", "s.rfind('o', 0, 5)", "s.index('W')", "s.index('zz')", "s.rindex('l')", "s.count('l')", "s.count('')", "'aaaa'.count('aa')", "s.find('')", "s.find('', 100)", "s.find('H', -100)", "s.count('o', 5)", "u.rfind('好')", "'ab'.find('b', 1, 1)", "'ab'.rfind('')",
    "','.join(['a', 'b'])", "','.join([])", "','.join('abc')", "','.join([1])", "''.join(words)", "','.join(d)", "'{} and {}'.format(1, 'x')", "'{0}{1}{0}'.format('a', 'b')", "'{a}'.format(a=3)", "'{{}}'.format()", "'{}'.format()", "'x{'.format(1)",
    "'abc'.isalpha()", "'ab1'.isalpha()", "''.isalpha()", "'12'.isdigit()", "'1²'.isdigit()", "'1²'.isdecimal()", "'½'.isnumeric()", "'ab1'.isalnum()", "' \\t'.isspace()", "''.isspace()", "'AB'.isupper()", "'Ab'.isupper()", "'ab1'.islower()", "'1'.islower()", "'abc'.isascii()", "u.isascii()", "''.isascii()", "'你好'.isalpha()", "'٣'.isdigit()",
    "'a'.zfill(3)", "'-5'.zfill(4)", "'a'.ljust(3) ~ '|'", "'a'.rjust(3, '*')", "'ab'.center(5, '-')", "'ab'.center(6, '-')", "'abc'.center(6, '-')", "'a'.ljust(3, 'xx')", "'TestHook'.removeprefix('Test')", "'MiscTests'.removesuffix('Tests')", "'x'.removeprefix('y')", "'a=b=c'.partition('=')", "'a=b=c'.rpartition('=')", "'abc'.partition('=')", "'abc'.rpartition('=')", "'abc'.partition('')",
    "d.items()", "d.keys()", "d.values()", "d.items()|list", "d.keys()|list", "d.get('a')", "d.get('zz')", "d.get('zz', 5)", "d.get()", "d.copy()", "tool.function.parameters.properties.items", "tool.function.parameters.properties['items']", "d.items", "d.update", "d.pop is defined", "d.get is defined", "l.index(1)", "l.index(9)", "l.count(3)", "(1,2,1).count(1)", "l.index", "'a'.upper is callable",
    "words[0].upper()[0]", "msgs[1].content.strip().endswith('i')", "d.keys()|length", "d.keys()|first", "d.keys()[0]", "'a' in d.keys()", "1 in d.values()", "('a', 2) in d.items()", "d.items()|sort", "s['upper']()", "'a'['nope']",
    "s.nope()", "l.append(1)", "d.update({})", "l.sort()", "d.clear()", "''.__class__", "s._x", "l.__len__()", "s.upper(1)", "s.split(bad=1)", "'a'.join()", "n.upper()", "nil.strip()", "d.a()", "s()", "1()",
]

FILTERS = [
    "s|upper", "s|lower", "'hello world-foo (bar) [x'|title", "'hELLO'|capitalize", "sp|trim", "'xax'|trim('x')", "42|trim", "none|upper", "l|length", "s|length", "u|length", "d|count", "n|length", "l|join", "l|join(',')", "words|join(', ')", "[1, none, true, 2.5]|join('-')", "'abc'|join('.')", "msgs|join(',', attribute='role')", "n|join",
    "l|first", "l|last", "e|first", "e|last", "s|first", "s|last", "d|first", "d|last", "e|first is defined", "n|first", "range(3)|last", "l|list", "'abc'|list", "d|list", "n|list", "l|reverse|list", "'abc'|reverse", "u|reverse", "d|reverse|list", "l|reverse", "n|reverse",
    "l|sort", "l|sort(reverse=true)", "words|sort", "words|sort(case_sensitive=true)", "words|sort(true)", "msgs|sort(attribute='role')|map(attribute='role')|join(',')", "[[2,'b'],[1,'a'],[2,'a']]|sort", "[1,'a']|sort", "[{'a':1,'b':2},{'a':1,'b':1}]|sort(attribute='a,b')", "['b','A','a','B']|sort", "[none, 1]|sort", "[true, 0, 2]|sort", "d|sort", "e|sort", "'hello'|sort|join",
    "d|dictsort", "d|dictsort(true)", "{'a': 2, 'b': 1}|dictsort(by='value')", "d|dictsort(reverse=true)", "d|dictsort(by='x')", "l|dictsort", "d|items|list", "nope|items|list", "l|items|list", "words|unique|list", "words|unique|join", "['a','A','b']|unique|list", "['a','A','b']|unique(true)|list", "[1, 1.0, true]|unique|list", "[[1]]|unique|list", "msgs|unique(attribute='role')|map(attribute='role')|list",
    "l|min", "l|max", "words|min", "words|max", "e|min", "e|max is defined", "msgs|min(attribute='role')", "l|sum", "e|sum", "l|sum(start=10)", "[1, 2.5]|sum", "msgs|sum(attribute='x')", "[{'x':1},{'x':2}]|sum(attribute='x')", "['a']|sum", "[[1],[2]]|sum(start=[])", "[1,'a']|max", "['b','B','a']|max", "['b','B','a']|min(case_sensitive=true)",
    "words|map('upper')|list", "words|map('upper')", "msgs|map(attribute='role')|list", "msgs|map(attribute='content', default='?')|list", "msgs|map(attribute='nope', default='?')|list", "[[1,2],[3,4]]|map(attribute=0)|list", "[[1,2],[3,4]]|map(attribute='1')|list", "msgs|map(attribute='tool_calls.0.function.name')|list", "msgs|map(attribute='nope')|list", "words|map('replace', 'a', 'b')|list", "words|map('default', 'x')|list", "l|map('string')|list", "l|map('nope')|list", "l|map|list", "[1.5, 2]|map('int')|list", "words|map('length')|sum",
    "l|select('odd')|list", "l|reject('odd')|list", "[0,1,none,'']|select|list", "[0,1,none,'']|reject|list", "l|select('gt', 1)|list", "l|select('in', [1,2])|list", "l|select('nope')|list", "words|select('equalto', 'apple')|list", "msgs|selectattr('tool_calls')|list|length", "msgs|selectattr('role', 'equalto', 'user')|list|length", "msgs|rejectattr('role', 'eq', 'user')|map(attribute='role')|join(' ')", "msgs|selectattr('content', 'string')|list|length", "msgs|selectattr('tool_calls', 'defined')|list|length", "msgs|rejectattr('tool_calls')|list|length", "msgs|selectattr('role', '==', 'tool')|first", "msgs|selectattr|list", "l|select('divisibleby', 3)|list",
    "(l|map('string'))|length", "(l|select('odd'))|first", "(l|select('odd'))|last", "l|select('odd') is iterable", "l|select('odd')", "nope|list", "nope|join", "nope|upper", "nope|default('x')", "nil|default('x')", "nil|default('x', true)", "empty|default('x')", "empty|default('x', boolean=true)", "nope|d", "nope|d(1)", "nope.x|default(1)", "d.nope|default('y')", "nope|first", "nope|sum", "nope|trim", "nope|string", "nope|tojson", "nope|int", "nope|float", "nope|abs", "nope|sort", "nope|reverse|list", "nope|min",
    "'42'|int", "'4.9'|int", "4.9|int", "-4.9|int", "'x'|int", "'x'|int(5)", "'ff'|int(0, 16)", "'0xff'|int(0, 16)", "'0x1f'|int(0, 0)", "'0b11'|int(base=2)", "' 12 '|int", "'1_000'|int", "none|int", "true|int", "[]|int", "'1e3'|int", "''|int", "'-7'|int", "'+7'|int", "'--7'|int", "'1__0'|int", "'_1'|int", "'1_'|int", "'inf'|int", "'nan'|int", "'0x10'|int", "'z'|int(0, 36)",
    "'2.5'|float", "'x'|float", "'x'|float(1.5)", "3|float", "'1e3'|float", "'inf'|float", "'-Infinity'|float", "'nan'|float", "' 1.5 '|float", "'1_0.5'|float", "'.5'|float", "'5.'|float", "'1e'|float", "true|float", "none|float", "'- 1'|float", "'0x10'|float", "'1_e3'|float",
    "-3|abs", "neg|abs", "-2.5|abs", "true|abs", "'a'|abs", "2.5|round", "3.5|round", "2.567|round(2)", "2.5|round(0, 'ceil')", "2.567|round(1, 'floor')", "42|round", "42|round(-1)", "45|round(-1)", "55|round(-1)", "-45|round(-1)", "1234.5|round(-2)", "2.675|round(2)", "2.5|round(method='x')", "true|round", "'a'|round", "1.005|round(2)", "0.5|round|int", "1e300|round(2)", "-2.5|round", "-0.4|round", "2|round(1, 'ceil')",
    "s|replace('l', 'L')", "s|replace('l', 'L', 1)", "12|replace(1, 3)", "none|replace('N', 'n')", "s|replace('l')", "'a\\nb\\n\\nc'|indent", "'a\\nb'|indent(2)", "'a\\nb'|indent(2, true)", "'a\\n\\nb'|indent(2, blank=true)", "'a\\nb'|indent('> ')", "'a\\n\\nb'|indent('> ', true, true)", "''|indent(2, true)", "1|indent", "'a\\r\\nb\\n'|indent(1)", "'a\\n'|indent",
    "'<a href=\"x\">&\\'</a>'|e", "'<a>'|escape", "1|e", "'<b>'|safe", "s|string", "n|string ~ 'x'", "none|string", "l|string", "d|string", "tool|string", "f|string", "1e20|string", "true|string", "u|string",
    "s|nope", "s|upper|nope", "s|upper()", "s|upper('x')", "s|trim|upper|lower", "-n|abs", "(-n)|abs", "'a' ~ 'b'|upper", "'a'|upper ~ 'b'", "not s|length", "1 + '2'|int", "l|length - 1", "(l|length - 1) - 0", "l|first|string|length", "s|replace(old='l', new='r')", "l|join(d='/')",
]

JSON = [
    "d|tojson", "tool|tojson", "tool|tojson(indent=2)", "tool|tojson(indent=4)|length", "d|tojson(sort_keys=true)", "d|tojson(separators=(',', ':'))", "u|tojson", "u|tojson(ensure_ascii=true)", "'\\x00\\x1f\\x7f\\u2028\"\\\\\\n\\r\\t\\b\\f/'|tojson", "'\\x00\\x7f\\u2028é🙂'|tojson(true)", "[]|tojson", "{}|tojson", "[]|tojson(indent=2)", "{}|tojson(indent=2)", "[[], {}]|tojson(indent=1)", "[1, [2, [3]]]|tojson(indent=1)", "(1, 2)|tojson", "none|tojson", "true|tojson", "1.0|tojson", "1e16|tojson", "1e-7|tojson", "'inf'|float|tojson", "'nan'|float|tojson", "{1: 2, none: 3, true: 4, 1.5: 5}|tojson", "{(1,): 2}|tojson", "d.items()|tojson", "d.keys()|list|tojson", "range(3)|tojson", "range(3)|list|tojson", "nope|tojson", "[nope]|tojson", "namespace(a=1)|tojson", "big|tojson", "-5|tojson", "msgs|tojson", "s|tojson|length", "l|map('string')|tojson", "d|tojson(indent='--')", "d|tojson(indent=0)", "{'b': 1, 'a': 2}|tojson(indent=2, sort_keys=true)", "{'a': 1, 1: 2}|tojson(sort_keys=true)", "'</script>\\'&'|tojson", "d|tojson(indent=none)", "d|tojson(indent=2, separators=(',', ': '))",
    "d", "tool", "msgs", "[\"it's\", '\"', '\\'\"', '\\\\', '\\n\\r\\t\\x00\\x7f\\xa0\\xad\\u200b\\u2028é\\ue000\\U000e0001🙂']", "[u]", "('a',)", "[()]", "{'a': (1,)}", "[1.0, 1e100, -0.0, 1e-10]", "[true, none]", "[nope]", "[d.keys()]", "{'k': nope}", "['']", "[[[]]]", "[range(3)]", "'it\\'s'", "['\\x1b[0m']", "['\u0378\u4e00\uffff']",
]

TESTS = [f"{v} is {t}" for v in ("s", "n", "f", "yes", "nil", "l", "d", "nope", "()", "range(2)", "d.items()", "namespace()", "range", "z", "no", "1.0")
         for t in ("defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping", "sequence", "iterable", "callable")]
TESTS += [
    "n is odd", "n is even", "f is odd", "s is odd", "n is divisibleby 7", "n is divisibleby(2)", "n is divisibleby 0", "'abc' is lower", "'ABC' is upper", "'a1' is lower", "1 is lower", "n is eq 7", "n is equalto 7", "n is ne 7", "n is lt 8", "n is gt 8", "n is le 7", "n is ge(7)", "n is lessthan 3", "n is greaterthan 3", "n is in [7]", "'a' is in 'abc'", "n is not in [7]", "n is not odd", "not n is odd", "n is sameas n", "none is sameas none", "1 is sameas 1.0", "true is sameas true", "s is escaped", "'upper' is filter", "'nope' is filter", "'odd' is test", "n is nope", "n is odd is odd", "n is odd and n is integer", "n is odd or 1/0", "1 if n is odd else 2", "n is defined and n", "s is string and s is not none", "n is divisibleby n", "l is eq [3,1,2]", "n is eq(7)", "'x' is string", "n is not defined", "n is", "n is not", "n is 5", "s is startswith('H')", "l is in [l]", "n is lt 'a'", "d.a is defined", "d.C[1].x is none", "(n is odd) == true", "n is odd == false", "msgs[0].content is string",
]

STATEMENTS = [
    "{% if n %}a{% elif s %}b{% else %}c{% endif %}", "{% if z %}a{% elif s %}b{% else %}c{% endif %}", "{% if z %}a{% elif e %}b{% elif nil %}c{% endif %}", "{% if no %}a{% endif %}|", "{% if z %}a{% else %}{% if n %}b{% endif %}{% endif %}", "{% if 1, 2 %}t{% endif %}",
    "{% for x in l %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}", "{% for x in e %}a{% else %}none{% endfor %}", "{% for x in l %}a{% else %}none{% endfor %}", "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% endfor %}", "{% for x in l if x > 9 %}a{% else %}none{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|dictsort %}{{ k }}{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for c in 'héy' %}{{ c }}.{% endfor %}", "{% for x in range(5) %}{{ x }}{% endfor %}", "{% for x in nope %}a{% else %}b{% endfor %}", "{% for x in n %}a{% endfor %}", "{% for x in nil %}a{% endfor %}", "{% for a, b in [(1,2),(3,4)] %}{{ a }}{{ b }}{% endfor %}", "{% for a, b in [(1,2,3)] %}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for (a, b), c in [((1,2),3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in ['xy'] %}{{ b }}{{ a }}{% endfor %}", "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for x in l|sort %}{{ x }}{% endfor %}", "{% for x in (l if yes else e) %}{{ x }}{% endfor %}",
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}", "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}", "{% for x in l %}{{ loop.previtem is defined }}{% endfor %}", "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in [1,1,2] %}{{ loop.changed(x) }}{% endfor %}", "{% for x in l %}{% for y in l %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}", "{% for x in l %}{% set o = loop %}{% for y in l %}{{ o.index }}{{ loop.index }} {% endfor %}{% endfor %}", "{{ loop }}", "{{ loop.index }}", "{% for x in l %}{{ loop.nope }}{% endfor %}", "{% for x in l %}{{ loop }}{% endfor %}", "{% for x in l %}{{ loop.nope is defined }}{% endfor %}", "{% for x in l %}{{ loop|length }}{% endfor %}", "{% for x in words|map('upper') %}{{ loop.index }}/{{ loop.length }}{{ x }} {% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}|", "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}|", "{% for x in l %}{% break %}{% else %}e{% endfor %}|", "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ y }}{% endfor %}{{ x }}{% endfor %}", "{% for x in l %}{% with y = x %}{% if y == 1 %}{% continue %}{% endif %}{{ y }}{% endwith %}{% endfor %}{{ y }}", "{% for x in l %}{% set x = x * 2 %}{{ x }}{% endfor %}{{ x }}", "{% break %}", 
    "{% set x = 1 %}{% for i in l %}{{ x }}{% set x = 5 %}{{ x }}{% endfor %}{{ x }}", "{% set x = 1 %}{% if yes %}{% set x = 2 %}{% endif %}{{ x }}", "{% if no %}{% set x = 2 %}{% endif %}{{ x is defined }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = [1] %}", "{% set (a, b) = (1, 2) %}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set x = 'a' if no else 'b' %}{{ x }}", "{% set ns = namespace(x=1) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "{% set ns = namespace() %}{% set ns.a = [] %}{{ ns.a }}{{ ns.b is defined }}", "{% set d.a = 1 %}", "{% set nope.a = 1 %}", "{% set ns = namespace(a=1, b='x') %}{{ ns.a ~ ns.b }}", "{% set ns = namespace(a=1) %}{{ ns['a'] }}", "{% set x %}a{{ n }}b{% endset %}[{{ x }}]", "{% set x | upper %}abc{% endset %}{{ x }}", "{% set x | replace('a', 'b') | upper %}abc{% endset %}{{ x }}", "{% set x %}{% set y = 1 %}{% endset %}{{ y is defined }}", "{% set x = x | default('q') %}{{ x }}", "{% for i in l %}{% set x %}{{ i }}{% endset %}{{ x }}{% endfor %}{{ x }}", "{% set x = [1] %}{% set y = x %}{{ y == x }}", "{% set 1 = 2 %}", "{% set x 1 %}", "{% set x =  %}",
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=5, a=4) }}", "{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m() }}", "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}{{ m(1) }}", "{% macro m(a) %}x{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}x{% endmacro %}{{ m(b=2) }}", "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(3) }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}body{{ n }}{% endcall %}", "{% macro m(l) %}{% for x in l %}{{ caller(x) }}{% endfor %}{% endmacro %}{% call(y) m([1,2]) %}<{{ y }}>{% endcall %}", "{% macro m() %}x{% endmacro %}{% call m() %}b{% endcall %}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% macro m() %}{{ x }}{% endmacro %}{% set x = 5 %}{{ m() }}", "{% set x = 1 %}{% macro m() %}{{ x }}{% set x = 2 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}", "{% macro m() %}a{% endmacro %}{{ m }}", "{% macro m() %}a{% endmacro %}{{ m.name }}", "{% macro m() %} a {% endmacro %}{{ m()|trim|upper }}", "{% macro m(x) -%}\n  {{ x }}\n{%- endmacro %}[{{ m('q') }}]", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% macro a() %}{{ loop is defined }}{% endmacro %}{% for x in [1] %}{{ a() }}{% endfor %}", "{% if yes %}{% macro m() %}in{% endmacro %}{% endif %}{{ m() }}", "{% for x in l %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m() %}a{% endmacro %}{{ m() ~ m() }}{{ m() == 'a' }}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(m(m('z'))) }}",
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter trim|upper %}  a {% endfilter %}|", "{% filter replace('a', 'b') %}aXa{% endfilter %}", "{% filter nope %}a{% endfilter %}", "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}", "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}", "{% generation %}x{{ n }}{% endgeneration %}", "{% for m in msgs %}{%- generation -%}{{ m.content }}{%- endgeneration -%}{% endfor %}", "{{ raise_exception('no ' ~ n) }}", "{% if yes %}{{ raise_exception('x') }}{% endif %}", "{% if no %}{{ raise_exception('x') }}{% endif %}fine", "{{ strftime_now('%d %B %Y') }}", "{{ strftime_now('%Y-%m-%d %H:%M:%S %j %a %A %b %p %I %y %U %W %w %u %V %G %e %-d %F %T %D %% %Z|%z|%f') }}", "{{ strftime_now('%c|%x|%X|%C|%h|%n|%t|%R|%r|%k|%l|%s|%g|%P|%_d|%-m|%^a|%0e') }}", "{{ strftime_now() }}",
    "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}", "{% nope %}", "{% endif %}", "{% if yes %}", "{% for x in l %}", "{% if %}{% endif %}", "{% for in l %}{% endfor %}", "{% for x l %}{% endfor %}", "{% else %}", "{{ }}", "{% %}", "{{", "{%", "{# a", "{% raw %}a", "}}", "%}", "#}", "{{ 1 }", "{{ 1 %}", "{% if yes }}x{% endif %}", "{% if yes %}x{% endfor %}", "{{ nofunc() }}", "{% set nofunc2 = 1 %}{{ nofunc2() }}", "{% do l.append(1) %}",
    "{%- set ns = namespace(multi_step_tool=true, last=msgs|length - 1) %}{%- for message in msgs[::-1] %}{%- set index = (msgs|length - 1) - loop.index0 %}{%- if ns.multi_step_tool and message.role == \"user\" and message.content is string %}{%- set ns.multi_step_tool = false %}{%- set ns.last = index %}{%- endif %}{%- endfor %}{{ ns.last }}",
    "{% for m in msgs %}{{ '<|' + m.role + '|>' + (m.content or '') }}{% endfor %}", "{% for m in msgs if m.role != 'system' %}{{ loop.index0 % 2 == 0 }}{% endfor %}", "{{ msgs[0]['role'] == 'system' and msgs[0].content is not none }}", "{% set system = msgs[0].content if msgs[0].role == 'system' else '' %}{% set rest = msgs[1:] if system else msgs %}{{ system }}{{ rest|length }}",
    "{% for t in [tool] %}{% for k, v in t.function.parameters.properties.items() %}{{ k }}:{{ v.type }};{% endfor %}{% endfor %}", "{% if tool.function.parameters.properties is mapping %}m{% endif %}", "{{ (tool | string) ~ '\n' }}", "{% set x = [] %}{% for m in msgs %}{% set x = x + [m.role] %}{% endfor %}{{ x }}", "{% set ns = namespace(out=[]) %}{% for m in msgs %}{% set ns.out = ns.out + [m.role] %}{% endfor %}{{ ns.out|join(' ') }}", "{% for x in l %}{{ 'a' if loop.first else 'b' if loop.last else 'c' }}{% endfor %}", "{{ '' if nope else 'q' }}", "{{ nope.x if nope else 'q' }}", "{% set a = b = 1 %}", "{% for m in msgs %}{{ m.content.strip() if m.content is string }}{% endfor %}",
    "{% macro j(x, ind='') %}{% if x is mapping %}{% for k, v in x.items() %}{{ ind }}{{ k }}:\n{{ j(v, ind ~ '  ') }}{% endfor %}{% elif x is iterable and x is not string %}{% for v in x %}{{ j(v, ind ~ '- ') }}{% endfor %}{% else %}{{ ind }}{{ x }}\n{% endif %}{% endmacro %}{{ j(tool) }}", "{% set s2 = s %}{% set s2 = s2.replace('Hello', 'Bye') %}{{ s2 }}", "{{ [1,2,3]|map('string')|join('+') }}={{ [1,2,3]|sum }}", "{% set x = l|map('string') %}{{ x|join }}{{ x|join }}", "{% set x = l|select('odd') %}{{ x|first }}{{ x|list }}", "{% for i in range(3) %}{% for j in range(i) %}{{ i }}{{ j }} {% endfor %}{% endfor %}", "{% set x = {'a': 1} %}{{ x.a }}{{ x['a'] }}{{ x.get('a') }}", "{{ {'items': 1}.items is defined }}{{ {'q': 1}.q }}",
]

BIG = "{% set b = {" + ", ".join(f"'k{i}': {i}" for i in range(40)) + ", 3: 'three', 2.0: 'two', none: 'n', (1, 'x'): 't'} %}"

EDGES = [BIG + x for x in (
    "{{ b.k0 }}{{ b['k39'] }}{{ b.k40 is defined }}{{ b[3] }}{{ b[2] }}{{ b[true] is defined }}{{ b[none] }}{{ b[(1, 'x')] }}", "{{ b|length }}{{ b|tojson if no }}{{ b.items()|list|length }}", "{{ 'k7' in b }}{{ 'k99' in b }}{{ 3.0 in b }}", "{{ dict(b, k3='new').k3 }}{{ dict(b, zz=1).zz }}{{ b.zz is defined }}", "{{ b == dict(b) }}{{ b == dict(b, k3=9) }}{{ b == dict(b, zz=9) }}", "{{ b }}", "{{ b.get('k20') }}{{ b.get('nope') }}{{ b.nope }}", "{{ b.keys()|list|join(' ') }}", "{% set ns = namespace(b) %}{% set ns.k5 = 'x' %}{{ ns.k5 }}{{ ns.k6 }}",
)] + ["{% for k in range(30) %}{% if loop.first %}{% set ns = namespace() %}{% endif %}{% endfor %}x", "{{ dict([('a', 1), ('b', 2), ('a', 3)]) }}", "{{ range(40)|map('string')|unique|join }}", "{{ (range(40)|list + range(40)|list)|unique|join }}"] + ["{{ " + x + " }}" for x in [
    "'x'", "'\\x4'", "'\\u12'", "'\\U00110000'", "(", "(1,", "[1,", "{1:", "f(", "f(1", "f(a=1, 2)", "range(a=1, 2)", "s.replace(a=1, 2)", "l[1, 2]", "d[1, 2]", "{(1, 2): 'x'}[1, 2]", "l[1:2", "l[1:2, 3]", "0x", "0b2", "0o8", "007", "1e", "1__0", "1_", "0_0", "1e5", "1E+5", "1.5E-3", "1.e5", "1.5.nope", "é", "ñame is defined", "ñ2", "(1)(2)", "s|upper()|lower", "(s|upper)('x')", "s is string()", "1 is string 'x'",
    "d|tojson(indent=1.5)", "d|tojson(indent=true)", "d|tojson(separators=',')", "d|tojson(separators=(',',))", "d|tojson(separators=[',', ':'])", "'9'|int(base=1)", "'9'|int(base=37)", "'a'|round", "nope|round", "none|round", "s|sum", "'abc'|sum(start='')", "l|map(1)|list", "l|select(1)|list", "x|dictsort", "nope|dictsort", "msgs|map(attribute='nope', default=none)|list", "e is sameas e", "l is sameas e", "range is sameas range", "range(1, 2, 3, 4)", "dict(1, 2)", "dict([1])", "dict([(1,)])", "dict(['ab'])", "namespace(1)", "strftime_now('%Q %')", "strftime_now('%')", "strftime_now('100%% %i %')",
    "0 ** -1", "0.0 ** -1", "2.0 ** 3", "2 ** 0.5", "1.5 - 0.5", "1.5 / 0.5", "3 - 1.5", "1.5 * 2", "(-8.0) ** 2", "10.0 ** 400", "10.0 ** 308", "6.0 % 2", "-6.0 % 2", "6.0 // 2", "0.0 // 5", "-0.0 // 5", "-1 // 5.0", "1 // -5.0", "1e308 * 10", "'inf'|float - 'inf'|float", "('nan'|float) == ('nan'|float)", "('nan'|float) < 1", "('nan'|float) >= 1", "1e17 // 1", "5 // 0.3", "1 % 'inf'|float", "-5 % 0.3",
    "l['a':]", "l[1.5:]", "nope[1:]", "l[nope:]", "l[:nope]", "n[1:]", "d[1:]", "nil[:1]", "range(10)[2:8:2]", "range(10)[::-1]", "range(10)[::-1]|list", "range(10)[5:2]", "range(0, 10, 3)[1:]|list", "range(10)[2:8:2]|length", "range(5) == range(5)", "range(5) == range(0, 5, 1)", "range(0) == range(2, 2)", "range(0, 3, 2) == range(0, 4, 2)", "range(3) == [0, 1, 2]", "range(0, 1, 5) == range(0, 1, 9)", "{range(2): 1}", "range(0) or 'e'", "range(1) and 'x'", "0.0 or 'zero'", "0.5 and 'half'", "(l|map('string')) and 'gen'", "d.keys() == d.keys()", "d.values() == d.values()", "d.items() == d.items()", "d.keys() == d.items()", "e.keys", "ed.items() or 'none'", "namespace() == namespace()", "range == range", "range == dict", "s.upper == 1",
    "1234.5678|round(-3)", "0.1|round(25)", "1e-30|round(32)", "2.5|round(-1)", "25.0|round(-1)", "35.0|round(-1)", "1500.0|round(-3)", "1|round(400)", "15|round(-2)", "50|round(-2)", "150|round(-2)", "-150|round(-2)", "-50|round(-2)", "1e16|round", "123456789012345678|round(-2)", "1.0e15", "1e-7 * 10", "100 * 1.1", "1e5 / 1e-5", "3.0e10", "12345678.9", "1e100", "4.35 * 100", "1.1 + 2.2", "2 ** 53 + 0.0", "9007199254740993.0", "1.7976931348623157e308", "2.2250738585072014e-308", "4.9e-324", "9.5e-5", "0.00010", "1e21", "123e-20",
    "'⁵₅①⑴⒈⓵❶➀➊'.isdigit()", "'Ⅷ'.isnumeric()", "'Ⅷ'.isalpha()", "'Ⅷ'.islower()", "'ǅ'.isupper()", "'ǅ'.title()", "'ǅ'.lower()", "'ΑΣ'.lower()", "\"Σ'\".lower()", "\"ΑΣ'Α\".lower()", "\"ΑΣ'\".lower()", "'ΑΣ.Β'.lower()", "'.Σ'.lower()", "'ᾳ'.upper()", "'ᾳ'.title()", "'ΐ'.upper()", "'և'.title()", "'ŉ'.capitalize()", "'ﬃ'.title()", "'ß'.swapcase()", "'ſ'.upper()", "'µ'.upper()", "'ÿ'.upper()", "'ı'.upper()", "'K'.lower()", "'ꭰ'.upper()", "'Ꭰ'.lower()", "'ა'.upper()", "'ა'.title()", "'𐐨'.upper()",
    "s.find(none)", "s.find(1)", "s.count(1)", "s.count(nope)", "s.startswith(nope)", "s.startswith((nope,))", "s.removeprefix(1)", "s.replace(none, 'x')", "s.replace('a', none)", "s.replace(nope, 'x')", "s.strip(nope)", "s.split(nope)", "s.split('l', nope)", "s.split('l', 'x')", "s.zfill('x')", "s.ljust('x')", "s.partition(1)", "'{}{}'.format(1)", "'{1}'.format(1)", "'{a}'.format(b=1)", "'}'.format()", "'a'.center(4, 'é')", "s.center(-5)", "s.zfill(-9223372036854775807 - 1)", "s.ljust(-9223372036854775807 - 1)", "s.find('o', -9223372036854775807 - 1, 9223372036854775807)", "s[-9223372036854775807 - 1:9223372036854775807]", "'+5'.zfill(4)", "''.zfill(2)", "'abc'.find('', 3)", "'abc'.find('', 4)", "'abc'.rfind('', 1, 2)", "'abc'.count('', 1, 2)", "'abc'.count('', 4)", "u.find('你', 5)", "u.startswith('ï', 2)", "u.count('é', -20, 11)", "'a\\x1cb\\x85c\\u2029d\\x0be'.splitlines()", "'a\\r'.splitlines(true)", "'\\r\\n\\n\\r'.splitlines(true)", "'\\u3000\\x1f a \\x1c'.strip()", "'a\\u2003b\\x85c'.split()", "'\\u3000a'|trim",
]] + ["{% macro m(varargs) %}{{ varargs }}{% endmacro %}{{ m(1) }}", "{% macro m(kwargs) %}{{ kwargs }}{% endmacro %}{{ m(1) }}", "{% macro m(a) %}{{ a }}{{ varargs }}{% endmacro %}{{ m(1, 2, 3) }}", "{% macro m(a) %}{{ a }}{{ kwargs }}{% endmacro %}{{ m(b=2, a=1) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}", "{% macro m %}x{% endmacro %}", "{% macro m(a %}x{% endmacro %}", "{% macro m(1) %}x{% endmacro %}", "{% macro m(a=1,) %}{{ a }}{% endmacro %}{{ m() }}", "{% call 1 %}x{% endcall %}", "{% call m %}x{% endcall %}", "{% call(a=5) m() %}{{ a }}{% endcall %}{% macro m() %}{% endmacro %}", "{% macro m() %}{{ caller() }}{% endmacro %}{% call(a=5) m() %}{{ a }}{% endcall %}", "{% macro m(x) %}{{ x }}{{ caller() }}{% endmacro %}{% call m(x=1) %}c{% endcall %}", "{% macro m() %}{% if caller is defined %}{{ caller() }}{% else %}none{% endif %}{% endmacro %}{{ m() }}{% call m() %}c{% endcall %}", "x", "{% set a, b = nope %}", "{% set a, b = 'xy' %}{{ b }}", "{% set a, (b, c) = 1, (2, 3) %}{{ c }}", "{% set (a, b), c = (1, 2), 3 %}{{ a }}{{ b }}{{ c }}", "y", "{% set ns = namespace() %}{% set ns.x = 1, 2 %}{{ ns.x }}", "{% set x | %}a{% endset %}", "{% set x y %}a{% endset %}", "{% for x in l if x > 1 %}{{ loop.first }}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}", "{% for x in l if x in l if x > 1 %}{{ x }}{% endfor %}", "{% for x in (1 if yes) %}{{ x }}{% endfor %}", "{% for x in [1, 2] if (x > 1 if yes else no) %}{{ x }}{% endfor %}", "{% for x in l %}{% if loop.index == 2 %}{% continue %}{% endif %}{% set y = x %}{{ y }}{% else %}e{% endfor %}", "{% for x in l %}{% continue %}{% else %}e{% endfor %}", "{% for x in l %}{% filter upper %}a{% if x == 1 %}{% endif %}{% endfilter %}{% endfor %}", "{% for x in [[1, 2], [3]] %}{% for y in x %}{{ loop.index }}{{ y }}{% endfor %}{{ loop.index }}{% endfor %}", "{% for i in range(3) %}{% for j in range(3) %}{% if j == 1 %}{% continue %}{% endif %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% else %}x{% endfor %}", "{% if yes %}{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{% endfor %}{% endif %}ok", "{% with a = 1 %}{% set b = a %}{{ b }}{% endwith %}{{ b }}", "{% with a = 1, %}{{ a }}{% endwith %}", "{% with a %}{% endwith %}", "{% generation %}{% set a = 1 %}{% endgeneration %}{{ a }}", "{% generation x %}{% endgeneration %}", "{% set x = 1 %}{% set x = x + 1 %}{% set x = x + 1 %}{{ x }}", "{{ x }}{% set x = 1 %}{{ x }}", "{% if x is not defined %}{% set x = 1 %}{% endif %}{{ x }}", "{%- if enable is not defined -%}\n{%- set enable = true -%}\n{%- endif -%}\n\n{{ enable }}", "{% raw %}a{% endraw %}b{% raw %}c{% endraw %}", "a{% raw %}{% endra %}{% endraw %}", "{% rawx %}", "{%raw%}x{%endraw%}", "{# a #}{# b #}", "{#-#}x", "{#--#}x", "{{ 1 }}{# c -#}   x", "{{ '#}' }}{# '#}' #}", "{{ '\\'' }}", "{{ \"\\\"\" }}", "a{{ 1 }}\n", "{% if yes %}\n\n{% endif %}\n", "{% if yes -%}\n\n  a  \n\n{%- endif %}\nb"]

GROUPS = {
    "edges": EDGES,
    "whitespace": WHITESPACE,
    "expressions": ["{{ " + x + " }}" for x in EXPRESSIONS],
    "methods": ["{{ " + x + " }}" for x in METHODS],
    "filters": ["{{ " + x + " }}" for x in FILTERS],
    "json": ["{{ " + x + " }}" for x in JSON],
    "tests": ["{{ " + x + " }}" for x in TESTS],
    "statements": STATEMENTS,
}

# ---- random templates ----

ATOMS = ["s", "empty", "u", "sp", "n", "neg", "z", "f", "yes", "no", "nil", "l", "words", "d", "e", "ed", "msgs", "nope", "1", "0", "2", "-1", "1.5", "'a'", "'lo'", "''", "'é'", "[]", "{}", "none", "true", "false", "msgs[0].role", "d.a", "d.nope", "tool", "(1, 'x')", "[1, 2]", "'Ab c\\n'", "range(3)"]
NAMES = ["s", "u", "sp", "l", "words", "msgs", "n", "d", "nil", "nope", "e", "empty"]
# no "%": text formatting with it is not supported
BINARY = ["+", "-", "*", "/", "//", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
FNAMES = ["upper", "lower", "trim", "length", "first", "last", "list", "join('-')", "string", "tojson", "int", "float", "abs", "round", "default('x')", "default('x', true)", "sort", "reverse", "unique|list", "sum", "min", "max", "capitalize", "title", "replace('a', 'bb')", "map('string')|list", "select|list", "reject|list", "items|list", "dictsort", "indent(2)", "map(attribute='role')|list", "selectattr('role')|list", "tojson(indent=1)", "join", "trim('a')"]
TNAMES = ["defined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping", "sequence", "iterable", "odd", "even", "lower", "upper", "in [1, 'a', none]", "eq 1", "sameas none", "divisibleby 2", "callable"]
MNAMES = ["upper()", "strip()", "split()", "split('l')", "lower()", "title()", "startswith('H')", "endswith('d')", "replace('l', '')", "find('o')", "count('l')", "items()", "get('a')", "get('zz', 0)", "keys()", "values()", "isdigit()", "splitlines()", "lstrip('H')", "rstrip('\\n')", "join(['x', 'y'])"]


def expression(r, depth):
    if depth <= 0:
        return r.choice(ATOMS)
    k = r.random()
    e = lambda: expression(r, depth - 1)
    if k < 0.25:
        return f"({e()} {r.choice(BINARY)} {e()})"
    if k < 0.5:
        return f"({e()})|{r.choice(FNAMES)}"
    if k < 0.62:
        return f"(({e()}) is {r.choice(['', '', 'not '])}{r.choice(TNAMES)})"
    if k < 0.72:
        return f"({e()}).{r.choice(MNAMES)}"
    if k < 0.8:
        return f"({e()} if {e()} else {e()})"
    if k < 0.88:
        if r.random() < 0.5:
            return f"({e()})[{r.choice(['0', '-1', repr('a'), '5'])}]"
        # variables only: Jinja folds slices of constants, and then hides their errors
        return f"{r.choice(NAMES)}[{r.choice(['1:', ':-1', '::-1', '1:3', '::2', '5:', '-2::-1'])}]"
    if k < 0.92:
        return f"[{e()}, {e()}]"
    if k < 0.95:
        return f"(not {e()})"
    if k < 0.97:
        return "{" + f"'k': {e()}" + "}"
    return f"({e()}, {e()})"


def statement(r, depth):
    b = lambda: body(r, depth - 1)
    x = lambda: expression(r, 2)
    k = r.random()
    mark = lambda: r.choice(["", "", "-", "+"])
    o, c = "{%" + mark(), r.choice(["", "", "-", "+"]) + "%}"
    if depth <= 0 or k < 0.4:
        return "{{" + r.choice(["", "-"]) + " " + x() + " " + r.choice(["", "-"]) + "}}"
    if k < 0.55:
        return f"{o} if {x()} {c}{b()}{o} else {c}{b()}{o} endif {c}"
    if k < 0.75:
        cond = r.choice(["", "", f" if {x()}"])
        return f"{o} for v in {x()}{cond} {c}{b()}{{{{ v }}}}{{{{ loop.index }}}}{o} endfor {c}"
    if k < 0.85:
        return f"{o} set {r.choice(['q', 's', 'n'])} = {x()} {c}{{{{ q }}}}"
    if k < 0.9:
        return f"{o} set q {c}{b()}{o} endset {c}[{{{{ q }}}}]"
    if k < 0.95:
        return f"{o} with q = {x()} {c}{b()}{{{{ q }}}}{o} endwith {c}"
    return f"{o} macro mm(a, b={x()}) {c}{{{{ a }}}}{b()}{{{{ b }}}}{o} endmacro {c}{{{{ mm({x()}) }}}}"


def body(r, depth):
    out = ""
    for _ in range(r.randint(1, 3)):
        out += r.choice(["", " ", "\n", "x", "\n  ", "  y\n"]) + statement(r, depth)
    return out + r.choice(["", "\n", " "])


def nondeterministic(c):
    return " at 0x" in c.get("want", "").lower()


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "--random":
        r = random.Random(int(sys.argv[3]))
        cases = []
        while len(cases) < int(sys.argv[2]):
            c = case(r.choice(["{{ " + expression(r, r.randint(1, 4)) + " }}", body(r, r.randint(1, 3))]), C)
            if not nondeterministic(c):
                cases.append(c)
        json.dump(cases, sys.stdout, ensure_ascii=False)
        return
    for name, templates in GROUPS.items():
        cases = [case(t, C) for t in dict.fromkeys(templates)]
        dropped = [c["t"] for c in cases if nondeterministic(c)]
        cases = [c for c in cases if not nondeterministic(c)]
        for c in cases:
            del c["c"]
        with open(os.path.join(OUT, name + ".json"), "w", encoding="utf-8") as f:
            f.write('{"variables": ' + json.dumps(C, ensure_ascii=False) + ',\n"cases": [\n')
            f.write(",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]}\n")
        print(f"{name}: {len(cases)} cases, {sum('fails' in c for c in cases)} of them errors; "
              f"left out (they print addresses): {dropped}")


main()
