#!/bin/bash
# test_extract.sh - slm extract with the demo model: records are valid by their schema whatever the text is,
# the same for any number of rows at once, in the order of the input, and after a kill.
set -uo pipefail
. "$(dirname "$0")/cli_common.sh"

cat >"$work/person.json" <<'JSON'
{"type": "object", "additionalProperties": false, "required": ["name", "age", "city"],
 "properties": {"name": {"type": "string", "maxLength": 40},
                "age": {"type": ["integer", "null"], "minimum": 0, "maximum": 150},
                "city": {"type": "string", "maxLength": 40}}}
JSON
cat >"$work/order.json" <<'JSON'
{"type": "object", "additionalProperties": false, "required": ["kind", "items"],
 "properties": {"kind": {"enum": ["order", "question", "other"]},
                "items": {"type": "array", "maxItems": 3, "items": {"type": "object",
                  "additionalProperties": false, "required": ["what", "count"],
                  "properties": {"what": {"type": "string", "maxLength": 20},
                                 "count": {"type": "integer", "minimum": 1, "maximum": 99}}}}}}
JSON

# ---- one text
run extract demo --schema "$work/person.json" 'Anna is 30 years old and lives in Lima.'
prints 'a text' '{"name": "Anna", "age": 30, "city": "Lima"}'
silent 'a text'
run extract demo --schema "$work/person.json" Anna is 30 years old and lives in Lima. --json
json 'a text as JSON' 'd["record"] == {"name": "Anna", "age": 30, "city": "Lima"} and d["finish"] == "stop" and d["receipt"]["sampling"]["temperature"] == 0'
run extract demo --schema "$work/person.json" 'Anna is 30 years old and lives in Lima.' --max-tokens 5
ends 'a record that is cut off is none' 1
says 'a record that is cut off' 'not complete after 5 tokens'

# ---- what cannot be asked
run extract demo text
ends 'no schema' 2
run extract demo --schema "$work/none.json" text
ends 'no file' 1
echo '{"type":"object","unevaluatedProperties":{"$dynamicRef":"#x"}}' >"$work/odd.json"
run extract demo --schema "$work/odd.json" text
ends 'a keyword that is not supported' 1
says 'a keyword that is not supported' 'unevaluatedProperties|dynamicRef'
run extract demo --schema "$work/person.json"
ends 'no text' 2
run extract demo --schema "$work/person.json" text --input x
ends 'text and rows' 2

# ---- rows
python3 - "$work" <<'PYTHON'
import json, random, sys
random.seed(3)
names, cities = ["Anna", "Tom", "Maria", "Ravi", "Yuki", "Olu"], ["Lima", "Oslo", "Rome", "Paris", "Cairo"]
forms = ["{n} is {a} years old and lives in {c}.", "{n} from {c} is {a}.", "{n}, {a}, lives in {c}.",
         "Nobody is here.", "2 + 2 = {a}", "\"{n}\" said: {{\"name\": \"x\"}}\n\\ <|im_end|> {c}", "\u65e5\u672c {c} \U0001f600", "?"]
with open(sys.argv[1] + "/rows.jsonl", "w") as f:
    for i in range(40):
        text = random.choice(forms).format(n=random.choice(names), a=random.randrange(1, 99), c=random.choice(cities))
        f.write(json.dumps({"id": i, "body": text}) + "\n")
        if i == 20:
            f.write('{"id": "none"}\n{"body": "broken\n')
PYTHON
cat >"$work/valid.py" <<'PYTHON'
import json, sys
def person(r):
    return (list(r) == ["name", "age", "city"] and all(isinstance(r[k], str) and len(r[k]) <= 40 for k in ("name", "city"))
            and (r["age"] is None or type(r["age"]) is int and 0 <= r["age"] <= 150))
def order(r):
    return (list(r) == ["kind", "items"] and r["kind"] in ("order", "question", "other") and len(r["items"]) <= 3
            and all(list(i) == ["what", "count"] and len(i["what"]) <= 20 and type(i["count"]) is int and 1 <= i["count"] <= 99 for i in r["items"]))
check = {"person": person, "order": order}[sys.argv[2]]
d = [json.loads(l) for l in open(sys.argv[1])]
assert [x["row"] for x in d] == list(range(1, 43)), [x["row"] for x in d]
for x in d:
    assert ("error" in x) == (x["row"] in (22, 23)), x
    assert "error" in x or check(x["record"]), x
    assert x["row"] == 23 or x["id"] == ("none" if x["row"] == 22 else x["row"] - (1 if x["row"] < 22 else 3)), x
PYTHON
for schema in person order; do
    run extract demo --schema "$work/$schema.json" --field body --input "$work/rows.jsonl" --out "$work/$schema.jsonl" --json
    ends "rows by $schema" 1
    json "rows by $schema" 'd["rows"] == 42 and d["failed"] == 2 and d["rows_per_second"] > 0'
    python3 "$work/valid.py" "$work/$schema.jsonl" $schema 2>"$work/detail"
    result $? "every record is a valid $schema, in order" "$work/detail"
    for parallel in 1 3 32; do
        run extract demo --schema "$work/$schema.json" --field body --input "$work/rows.jsonl" --out "$work/p$parallel.jsonl" --parallel $parallel
        cmp "$work/$schema.jsonl" "$work/p$parallel.jsonl" >"$work/detail" 2>&1
        result $? "$schema: $parallel rows at once give the same records" "$work/detail"
        rm -f "$work/p$parallel.jsonl"
    done
done
run_with "$work/rows.jsonl" extract demo --schema "$work/person.json" --field body --think on
python3 "$work/valid.py" "$work/out" person 2>"$work/detail"
result $? 'records behind reasoning are valid' "$work/detail"
python3 - "$slm" "$work" >"$work/detail" 2>&1 <<'PYTHON'
import json, subprocess, sys
slm, work = sys.argv[1:]
texts = [json.loads(l) for l in list(open(work + "/rows.jsonl"))[:12]]
got = [json.loads(l) for l in list(open(work + "/person.jsonl"))[:12]]
for t, g in zip(texts, got):
    alone = subprocess.run([slm, "extract", "demo", "--schema", work + "/person.json", t["body"]], capture_output=True, text=True).stdout
    assert json.loads(alone) == g["record"], (t, alone, g)
PYTHON
result $? 'a row is answered as it is alone' "$work/detail"

# ---- CSV
run extract demo --schema "$work/person.json" --field body --input "$work/rows.jsonl" --output-format csv
python3 - "$work" 2>"$work/detail" <<'PYTHON'
import csv, json, sys
work = sys.argv[1]
a = [json.loads(l) for l in open(work + "/person.jsonl")]
b = list(csv.DictReader(open(work + "/out", newline="")))
assert len(a) == len(b) == 42
for x, y in zip(a, b):
    if "error" in x:
        assert y["error"].startswith(x["error"]["code"]) and y["name"] == ""
    else:
        assert (y["name"], y["city"]) == (x["record"]["name"], x["record"]["city"]), (x, y)
        assert y["age"] == ("" if x["record"]["age"] is None else str(x["record"]["age"])), (x, y)
PYTHON
result $? 'CSV has the same values' "$work/detail"
run extract demo --schema "$work/order.json" --field body --input "$work/rows.jsonl" --output-format csv
ends 'CSV of a schema that is not flat' 2
says 'CSV of a schema that is not flat' "flat schema: 'items'"

# ---- going on after a kill
for _ in 1 2 3 4; do
    cut=$((RANDOM % $(stat -c %s "$work/person.jsonl")))
    head -c $cut "$work/person.jsonl" >"$work/b.jsonl"
    run extract demo --schema "$work/person.json" --field body --input "$work/rows.jsonl" --out "$work/b.jsonl"
    cmp "$work/person.jsonl" "$work/b.jsonl" >"$work/detail" 2>&1
    result $? "cut after $cut bytes: the same file" "$work/detail"
done
rm -f "$work/b.jsonl"
kills=0
for _ in $(seq 30); do
    "$slm" extract demo --schema "$work/person.json" --field body --input "$work/rows.jsonl" --out "$work/b.jsonl" >/dev/null 2>&1 &
    pid=$!
    # some time after it has written more than was there
    before=$(stat -c %s "$work/b.jsonl" 2>/dev/null || echo 0)
    while kill -0 $pid 2>/dev/null && [ "$(stat -c %s "$work/b.jsonl" 2>/dev/null || echo 0)" -le "$before" ]; do
        sleep 0.00$((RANDOM % 9 + 1))
    done
    kill -9 $pid 2>/dev/null && kills=$((kills + 1))
    wait $pid 2>/dev/null
    [ $? = 1 ] && break
done
run extract demo --schema "$work/person.json" --field body --input "$work/rows.jsonl" --out "$work/b.jsonl"
cmp "$work/person.jsonl" "$work/b.jsonl" >"$work/detail" 2>&1 && [ "$kills" -gt 0 ]
result $? "killed $kills times: the same file" "$work/detail"
run extract demo --schema "$work/order.json" --field body --input "$work/rows.jsonl" --out "$work/b.jsonl"
ends 'another schema is refused' 1
run extract demo --schema "$work/person.json" --instruction 'In English.' --field body --input "$work/rows.jsonl" --out "$work/b.jsonl"
ends 'another instruction is refused' 1
finish
