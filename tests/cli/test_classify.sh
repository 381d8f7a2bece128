#!/bin/bash
# test_classify.sh - slm classify with the demo model: one text, rows in three forms, records of rows that
# fail, going on after a kill at any moment with the same bytes, what is refused, and calibration
# against numbers computed here by other means.
set -uo pipefail
. "$(dirname "$0")/cli_common.sh"
labels=positive,negative,neutral

# ---- one text
run classify demo --labels positive,negative 'I love this phone.'
ends 'a text' 0
result "$(grep -qE '^positive +[0-9.]+ %$' "$work/out" && [ "$(wc -l <"$work/out")" = 2 ] && echo 0 || echo 1)" \
    'the likeliest label comes first' "$work/out"
run classify demo --labels positive,negative The food was terrible. --json
json 'a text as JSON' 'd["label"] == "negative" and d["probability"] > 0.9 and abs(sum(d["probabilities"].values()) - 1) < 1e-6'
json 'margin and mass' 'abs(d["margin"] - (d["probabilities"]["negative"] - d["probabilities"]["positive"])) < 1e-6 and 0.5 < d["mass"] <= 1 and d["calibrated"] is False'
json 'a receipt' 'd["usage"]["output_tokens"] >= 2 and d["receipt"]["model"] == "demo"'
run classify demo --labels positive,negative The food was terrible. --json --beginnings
json 'beginnings evaluate fewer tokens' 'd["label"] == "negative" and d["usage"]["output_tokens"] == 0'
printf 'positive\tthe writer is happy\n\nnegative\tthe writer is not\n' >"$work/labels"
run classify demo --labels-file "$work/labels" 'I love this phone.' --json
json 'labels with meanings' 'set(d["probabilities"]) == {"positive", "negative"} and d["usage"]["prompt_tokens"] > 45'
run classify demo --labels positive,negative --template 'Classify the sentiment of this text as {labels}: {text}' 'I love this phone.' --json
json 'a template' 'd["label"] == "positive" and d["probability"] > 0.9'
run classify demo --labels positive,negative --by-length 'I love this phone.' --json
json 'by length' '"mass" not in d and d["label"] == "positive"'

# ---- what cannot be asked
for args in '--labels a' '--labels a,,b' '--labels a,b,a' '--labels a,b --labels-file x' ''; do
    # shellcheck disable=SC2086
    run classify demo $args text
    ends "labels '$args'" 2
done
run classify demo --labels a,b
ends 'nothing to classify' 2
run classify demo --labels a,b text --input x
ends 'text and rows' 2
run classify demo --labels a,b --template 'no place' text
ends 'a template without a place for the text' 2
run classify demo --labels-file "$work/none" text
ends 'no file of labels' 1
run classify demo --labels a,b --input "$work/none"
ends 'no input' 1
printf 'id,body\n1,x\n' >"$work/in.csv"
run classify demo --labels a,b --input "$work/in.csv"
ends 'no such column' 1
says 'the columns that there are' 'one of: id, body'

# ---- rows
python3 - "$work" <<'PYTHON'
import csv, json, random, sys
work = sys.argv[1]
random.seed(11)
first = ["I love this phone", "The food was cold", "We had a great day at the beach", "My train was late again",
         "This is the worst hotel ever", "The staff was friendly", "I am very happy with the result",
         "The screen broke after two days", "What a wonderful concert", "The soup had no taste at all",
         "The parcel has three parts", "The shop opens at nine", "The table is made of wood"]
right = ["positive", "negative", "positive", "negative", "negative", "positive", "positive", "negative",
         "positive", "negative", "neutral", "neutral", "neutral"]
last = [".", " and I want my money back.", ', she said "again".', "\nand my sister agrees.", ", as the pictures show."]
rows = []
for i in range(130):
    k = random.randrange(len(first))
    # a fifth of the labels is wrong, so that the model is too sure of itself
    label = right[k] if random.random() < 0.8 else random.choice(["positive", "negative", "neutral"])
    rows.append({"id": 'r"%d", %s' % (i, random.choice(["a", "b,c", ""])), "text": first[k] + random.choice(last), "label": label})
with open(work + "/rows.jsonl", "w") as f:
    for r in rows:
        f.write(json.dumps(r) + "\n")
for name, end in ("rows.csv", "\n"), ("rows_crlf.csv", "\r\n"):
    with open(work + "/" + name, "w", newline="") as f:
        w = csv.DictWriter(f, ["id", "label", "text"], lineterminator=end)
        w.writeheader()
        w.writerows(rows)
with open(work + "/lines", "w") as f:
    f.write("".join(r["text"].replace("\n", " ") + "\n" for r in rows))
PYTHON
run classify demo --labels $labels --input "$work/rows.jsonl" --out "$work/a.jsonl" --json
ends 'JSON Lines' 0
json 'the summary' 'd["rows"] == 130 and d["failed"] == 0 and d["complete"] and d["rows_per_second"] > 0'
run classify demo --labels $labels --input "$work/rows.csv" --out "$work/a.csv"
says 'rows per second' '^slm: 130 rows in .*rows/s'
run classify demo --labels $labels --input "$work/rows_crlf.csv" --output-format csv
cp "$work/out" "$work/crlf.csv"
run_with "$work/lines" classify demo --labels $labels --quiet
cp "$work/out" "$work/lines.out"
silent 'quiet rows'
cat >"$work/compare.py" <<'PYTHON'
import csv, json, sys
work = sys.argv[1]
rows = [json.loads(l) for l in open(work + "/rows.jsonl")]
a = [json.loads(l) for l in open(work + "/a.jsonl")]
b = list(csv.DictReader(open(work + "/a.csv", newline="")))
c = list(csv.DictReader(open(work + "/crlf.csv", newline="")))
l = [json.loads(x) for x in open(work + "/lines.out")]
assert len(a) == len(b) == len(c) == len(l) == 130
for i, (r, x, y, z) in enumerate(zip(rows, a, b, c)):
    assert x["row"] == i + 1 and x["id"] == r["id"], (i, x)
    assert y["row"] == z["row"] == str(i + 1) and y["id"] == z["id"] == r["id"], (i, y)
    best = max(x["probabilities"], key=x["probabilities"].get)
    assert x["label"] == y["label"] == z["label"] == best
    assert abs(sum(x["probabilities"].values()) - 1) < 1e-5 and x["probability"] == x["probabilities"][best]
    for name, p in x["probabilities"].items():
        assert float(y["p:" + name]) == p == float(z["p:" + name])
    assert y["error"] == "" and len(y["check"]) == 16 and "check" not in z
right = sum(r["label"] == x["label"] for r, x in zip(rows, a))
assert right > 65, right
PYTHON
python3 "$work/compare.py" "$work" 2>"$work/detail"
result $? 'JSON Lines, CSV, CR LF: ids, order, the same numbers' "$work/detail"

for parallel in 1 2 64; do
    run classify demo --labels $labels --input "$work/rows.jsonl" --out "$work/p.jsonl" --parallel $parallel
    cmp "$work/a.jsonl" "$work/p.jsonl" >"$work/detail" 2>&1
    result $? "$parallel rows at once: the same bytes" "$work/detail"
    rm -f "$work/p.jsonl"
done

# ---- rows that fail
{
    printf '{"id":1,"text":"I love it."}\n\n{"id":2,"text":"bad"\n{"id":3}\n{"text":""}\n'
    printf '{"text":"\xff"}\n{"id":5,"text":"%s"}\n[1]\n{"id":6,"text":"The food was bad."}' "$(yes word | head -200 | tr '\n' ' ')"
} >"$work/bad.jsonl"
run classify demo --labels positive,negative --input "$work/bad.jsonl" --context 128
ends 'rows that fail' 1
python3 - "$work/out" 2>"$work/detail" <<'PYTHON'
import json, sys
d = [json.loads(l) for l in open(sys.argv[1])]
codes = [x["error"]["code"] if "error" in x else x["label"] for x in d]
assert codes == ["positive", "E_FORMAT", "E_FORMAT", "E_FORMAT", "E_ENCODING", "E_CONTEXT", "E_FORMAT", "negative"], codes
assert [x["row"] for x in d] == list(range(1, 9)) and d[5]["id"] == 5 and "128" in d[5]["error"]["message"]
PYTHON
result $? 'each row that fails is a record with its reason' "$work/detail"
printf 'text,id\nI love it.,1\nbroken "quote,2\ntoo,many,fields\n"The food was bad.",3\n' >"$work/bad.csv"
run classify demo --labels positive,negative --input "$work/bad.csv" --output-format csv
ends 'records of a CSV that fail' 1
result "$([ "$(grep -c E_FORMAT "$work/out")" = 2 ] && [ "$(wc -l <"$work/out")" = 5 ] && echo 0 || echo 1)" 'they are records too' "$work/out"

# ---- going on after a kill
for form in jsonl csv; do
    for _ in 1 2 3 4 5 6; do
        cut=$((RANDOM * 32768 % $(stat -c %s "$work/a.$form") + RANDOM % 999))
        head -c $cut "$work/a.$form" >"$work/b.$form"
        run classify demo --labels $labels --input "$work/rows.$form" --out "$work/b.$form"
        cmp "$work/a.$form" "$work/b.$form" >"$work/detail" 2>&1 && [ "$status" = 0 ]
        result $? "cut after $cut bytes, $form: the same file" "$work/detail"
    done
    rm -f "$work/b.$form"
    kills=0
    for _ in $(seq 40); do
        "$slm" classify demo --labels $labels --input "$work/rows.$form" --out "$work/b.$form" >/dev/null 2>&1 &
        pid=$!
        sleep 0.0$((RANDOM % 90 + 10))
        kill -9 $pid 2>/dev/null && kills=$((kills + 1))
        wait $pid 2>/dev/null && break
    done
    run classify demo --labels $labels --input "$work/rows.$form" --out "$work/b.$form"
    cmp "$work/a.$form" "$work/b.$form" >"$work/detail" 2>&1 && [ "$kills" -gt 0 ]
    result $? "killed $kills times, $form: the same file" "$work/detail"
done
run classify demo --labels positive,negative --input "$work/bad.jsonl" --context 128 --out "$work/c.jsonl"
head -n 3 "$work/c.jsonl" >"$work/d.jsonl"
run classify demo --labels positive,negative --input "$work/bad.jsonl" --context 128 --out "$work/d.jsonl" --json
ends 'going on behind rows that failed' 1
json 'and counting them' 'd["failed"] + d["failed_before"] == 6 and d["failed_before"] == 2 and d["rows_before"] == 3'
cmp -s "$work/c.jsonl" "$work/d.jsonl"
result $? 'the same file with rows that failed' "$work/out"
run classify demo --labels positive,negative --input "$work/bad.jsonl" --context 128 --out "$work/d.jsonl"
ends 'nothing left to do tells of failed rows' 1

# ---- what is not gone on with
cp "$work/a.jsonl" "$work/e.jsonl"
sed '7s/text": "/text": "Not /' "$work/rows.jsonl" >"$work/other.jsonl"
run classify demo --labels $labels --input "$work/other.jsonl" --out "$work/e.jsonl"
ends 'another input' 1
says 'another input' 'another input, or with other settings'
run classify demo --labels negative,positive,neutral --input "$work/rows.jsonl" --out "$work/e.jsonl"
ends 'other labels' 1
run classify demo --labels $labels --by-length --input "$work/rows.jsonl" --out "$work/e.jsonl"
ends 'other settings' 1
head -n 50 "$work/rows.jsonl" >"$work/short.jsonl"
run classify demo --labels $labels --input "$work/short.jsonl" --out "$work/e.jsonl"
ends 'fewer rows' 1
run classify demo --labels $labels --input "$work/rows.jsonl" --out "$work/rows.csv"
ends 'a file of somebody else' 1
run classify demo --labels $labels --input "$work/rows.jsonl" --out "$work/rows.jsonl"
ends 'the input itself' 1
sed 3d "$work/a.jsonl" >"$work/f.jsonl"
run classify demo --labels $labels --input "$work/rows.jsonl" --out "$work/f.jsonl"
ends 'a file with a row missing' 1
cmp -s "$work/a.jsonl" "$work/e.jsonl"
result $? 'what is refused is not touched' "$work/out"
head -n 5 "$work/a.jsonl" >"$work/g.jsonl"
exec 7>>"$work/g.jsonl"
flock 7
run classify demo --labels $labels --input "$work/rows.jsonl" --out "$work/g.jsonl"
exec 7>&-
ends 'a file that another one writes' 1
says 'a file that another one writes' 'another slm'

# ---- Ctrl-C
mkfifo "$work/pipe"
"$slm" classify demo --labels $labels --input "$work/pipe" --out "$work/h.jsonl" 2>"$work/err" &
pid=$!
exec 8>"$work/pipe"
head -n 4 "$work/rows.jsonl" >&8
for _ in $(seq 100); do
    [ "$(wc -l <"$work/h.jsonl" 2>/dev/null || echo 0)" -ge 3 ] && break
    sleep 0.05
done
kill -INT $pid
wait $pid
status=$?
exec 8>&-
result "$([ $status = 130 ] && grep -q 'goes on where it stopped' "$work/err" && echo 0 || echo 1)" 'Ctrl-C ends between rows' "$work/err"
run classify demo --labels $labels --input "$work/rows.jsonl" --out "$work/h.jsonl"
cmp -s "$work/a.jsonl" "$work/h.jsonl"
result $? 'and the file it left goes on with the same bytes' "$work/err"

# ---- calibration and evaluation, against numbers computed in another way
run classify demo --labels $labels --evaluate "$work/rows.csv" --json
cp "$work/out" "$work/evaluated.json"
ends 'evaluate' 0
run classify demo --labels $labels --calibrate "$work/rows.csv" --save-calibration "$work/fit.json" --json
cp "$work/out" "$work/calibrated.json"
ends 'calibrate' 0
run classify demo --labels $labels --calibration "$work/fit.json" --input "$work/rows.jsonl"
cp "$work/out" "$work/after.jsonl"
ends 'a calibration' 0
cat >"$work/check.py" <<'PYTHON'
import json, math, sys
work = sys.argv[1]
names = ["positive", "negative", "neutral"]
rows = [json.loads(l) for l in open(work + "/rows.jsonl")]
a = [json.loads(l) for l in open(work + "/a.jsonl")]
gold = [names.index(r["label"]) for r in rows]
score = [[math.log(x["probabilities"][n]) for n in names] for x in a]  # up to a constant of each row
n = len(rows)

def softmax(z):
    m = max(z)
    e = [math.exp(v - m) for v in z]
    return [v / sum(e) for v in e]

def gradient(x, keep):
    g = [x[0] - 1] + list(x[1:])
    for i in keep:
        p = softmax([x[0] * s + c for s, c in zip(score[i], x[1:])])
        for j in range(3):
            d = p[j] - (gold[i] == j)
            g[0] += d * score[i][j]
            g[1 + j] += d
    return g

def solve(m, b):  # Gauss with pivots
    m = [row[:] + [v] for row, v in zip(m, b)]
    for c in range(4):
        piv = max(range(c, 4), key=lambda r: abs(m[r][c]))
        m[c], m[piv] = m[piv], m[c]
        for r in range(4):
            if r != c:
                f = m[r][c] / m[c][c]
                m[r] = [u - f * v for u, v in zip(m[r], m[c])]
    return [m[r][4] / m[r][r] for r in range(4)]

def fit(keep):  # Newton on the gradient, its derivative by differences
    x, h = [1.0, 0, 0, 0], 1e-5
    for _ in range(60):
        g = gradient(x, keep)
        J = [[0.0] * 4 for _ in range(4)]
        for j in range(4):
            up, down = x[:], x[:]
            up[j] += h
            down[j] -= h
            for r, (u, v) in enumerate(zip(gradient(up, keep), gradient(down, keep))):
                J[r][j] = (u - v) / (2 * h)
        step, size = solve(J, g), 1.0
        norm = sum(v * v for v in g)
        while size > 1e-9 and sum(v * v for v in gradient([u - size * s for u, s in zip(x, step)], keep)) > norm:
            size /= 2
        x = [u - size * s for u, s in zip(x, step)]
        if norm < 1e-18:
            break
    return x

def measures(p):
    conf = [max(q) for q in p]
    hit = [q.index(max(q)) == g for q, g in zip(p, gold)]
    width, order, mass = 0, sorted(range(n), key=lambda i: (conf[i], i)), 0
    for b in range(15):
        part = [i for i in range(n) if min(14, int(conf[i] * 15)) == b]
        width += abs(sum(conf[i] - hit[i] for i in part)) / n
        part = order[b * n // 15:(b + 1) * n // 15]
        mass += abs(sum(conf[i] - hit[i] for i in part)) / n
    k, z = sum(hit), 1.959963984540054
    mid, half = k / n + z * z / (2 * n), z * math.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))
    return {"accuracy": k / n, "accuracy_95": [(mid - half) / (1 + z * z / n), (mid + half) / (1 + z * z / n)],
            "nll": sum(-math.log(q[g]) for q, g in zip(p, gold)) / n,
            "brier": sum(sum((v - (j == g)) ** 2 for j, v in enumerate(q)) for q, g in zip(p, gold)) / n,
            "ece_equal_width": width, "ece_equal_mass": mass}

def same(name, got, want):
    for key, v in want.items():
        pairs = zip(got[key], v) if isinstance(v, list) else [(got[key], v)]
        for x, y in pairs:
            assert abs(x - y) < 2e-5, (name, key, x, y)

def apply(x):
    return lambda i: softmax([x[0] * s + c for s, c in zip(score[i], x[1:])])

before = measures([softmax(s) for s in score])
e, c = json.load(open(work + "/evaluated.json")), json.load(open(work + "/calibrated.json"))
same("evaluate", e, before)
same("before", c["before"], before)
count = {r: {q: 0 for q in names} for r in names}
for g, x in zip(gold, a):
    count[names[g]][x["label"]] += 1
assert e["confusion"] == count, e["confusion"]
x = fit(range(n))
assert abs(c["temperature"] - 1 / x[0]) < 1e-4 / x[0], (c["temperature"], 1 / x[0])
for got, want in zip(c["bias"], x[1:]):
    assert abs(got - want / x[0]) < 1e-4 / x[0], (c["bias"], x)
folds = [fit([i for i in range(n) if i % 5 != f]) for f in range(5)]
after = measures([apply(folds[i % 5])(i) for i in range(n)])
same("after", c["after"], after)
assert after["nll"] < before["nll"] - 0.05 and after["ece_equal_width"] < before["ece_equal_width"], (before, after)
for i, line in enumerate(open(work + "/after.jsonl")):
    p = json.loads(line)["probabilities"]
    for name, want in zip(names, apply(x)(i)):
        assert abs(p[name] - want) < 1e-4, (i, p, want)
PYTHON
python3 "$work/check.py" "$work" 2>"$work/detail"
result $? 'fit, cross-validation, measures and confusion as computed in Python' "$work/detail"
run classify demo --labels $labels --calibrate "$work/rows.csv"
result "$(grep -q 'each row judged by a fit to the other four fifths' "$work/out" && grep -qE '^temperature [0-9.]+$' "$work/out" && echo 0 || echo 1)" 'calibrate says how it was measured' "$work/out"
run classify demo --labels $labels --evaluate "$work/rows.jsonl"
result "$(grep -qE '^accuracy [0-9.]+ % \(95 %: [0-9.]+ to [0-9.]+\)$' "$work/out" && echo 0 || echo 1)" 'evaluate prints an interval' "$work/out"
run classify demo --labels positive,negative --calibration "$work/fit.json" text
ends 'a calibration of other labels' 1
says 'a calibration of other labels' 'other weights, labels or prompt'
run classify demo --labels $labels --instruction 'Look closely.' --calibration "$work/fit.json" text
ends 'a calibration of another prompt' 1
echo '{"temperature":1}' >"$work/none.json"
run classify demo --labels $labels --calibration "$work/none.json" text
ends 'no calibration' 1
{ cat "$work/rows.jsonl"; echo '{"text":"x","label":"other"}'; } >"$work/unknown.jsonl"
run classify demo --labels $labels --evaluate "$work/unknown.jsonl" --json
ends 'a label that is none' 1
json 'and the others count' 'd["rows"] == 130 and d["failed"] == 1'
says 'a label that is none' "'other' is none of the labels"

finish
