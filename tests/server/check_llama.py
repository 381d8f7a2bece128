"""check_llama.py - what scripts and editors ask llama-server for: /completion, /props, /slots, tokens,
templates, embeddings; and the lists of models that Zed and Open WebUI read. Standard library only."""
import json
import subprocess

from serving import SLM, Server, finish, result

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


def get_json(s, path):
    status, _, body = s.get(path)
    return json.loads(body) if status == 200 else {"status": status, "body": body}


def check_completion(s):
    body = {"prompt": "The capital of Peru is", "n_predict": 6, "temperature": 0, "n_probs": 2, "return_tokens": True}
    whole = s.post("/completion", body)[2]
    _, events, _ = s.stream("/completion", dict(body, stream=True))
    pieces = [json.loads(e) for e in events]
    result(pieces and "".join(p["content"] for p in pieces) == whole["content"], "streamed as whole", pieces, whole)
    result([t for p in pieces for t in p["tokens"]] == whole["tokens"], "and the ids that were written")
    result(sum((p.get("completion_probabilities", []) for p in pieces), []) == whole["completion_probabilities"],
           "and their probabilities")
    result([p["stop"] for p in pieces] == [False] * (len(pieces) - 1) + [True], "the last piece says so")
    result(whole["stop_type"] in ("eos", "limit") and whole["tokens_predicted"] <= 6, "why it stopped", whole)
    again = s.post("/completion", body)[2]
    result(again["timings"]["cache_n"] >= 1 and again["content"] == whole["content"], "asked again: from the cache, the same",
           again["timings"])
    ids = s.post("/tokenize", {"content": body["prompt"]})[2]["tokens"]
    by_ids = s.post("/completion", dict(body, prompt=ids))[2]
    result(by_ids["content"] == whole["content"], "ids in place of text", by_ids)
    both = s.post("/completion", dict(body, prompt=[body["prompt"], ids]))[2]
    result([b["content"] for b in both] == [whole["content"]] * 2, "a list of both", both)
    stop = s.post("/completion", dict(body, stop=["ima"]))[2]
    result(stop["stop_type"] == "word" and stop["stopping_word"] == "ima", "a stop text", stop)
    last = s.post("/completion", dict(body, grammar="root ::= \"x\""))
    result(last[0] == 400 and last[2]["error"]["code"] == 400 and "GBNF" in last[2]["error"]["message"],
           "a grammar is refused with words", last)


def check_tokens(s):
    pieces = s.post("/tokenize", {"content": "Hi \U0001f98a", "with_pieces": True})[2]["tokens"]
    data = b"".join(bytes(p["piece"]) if isinstance(p["piece"], list) else p["piece"].encode() for p in pieces)
    result(data.decode() == "Hi \U0001f98a" and any(isinstance(p["piece"], list) for p in pieces),
           "pieces are text, or bytes where they are no text", pieces)
    one = s.post("/tokenize", {"content": "<|im_end|>"})[2]["tokens"]
    many = s.post("/tokenize", {"content": "<|im_end|>", "parse_special": False})[2]["tokens"]
    result(len(one) == 1 and len(many) > 1, "parse_special", one, many)
    prompt = s.post("/apply-template", CHAT)[2]["prompt"]
    run = subprocess.run([SLM, "render", "demo", "--jsonl"], input=json.dumps(CHAT).encode(), stdout=subprocess.PIPE,
                         timeout=60, check=False)
    result(prompt == json.loads(run.stdout)["rendered"], "/apply-template as slm render", prompt, run.stdout)
    off = s.post("/apply-template", dict(CHAT, chat_template_kwargs={"enable_thinking": False}))[2]["prompt"]
    result(off != prompt and off.endswith("</think>\n\n"), "and without thinking", off)


def check_props(s):
    props = get_json(s, "/props")
    result(props["default_generation_settings"]["n_ctx"] == 1024 and props["modalities"]["vision"] is False,
           "/props: context and modalities", props)
    caps = props["chat_template_caps"]
    result(caps["supports_tools"] and caps["supports_tool_calls"] and "im_start" in props["chat_template"],
           "/props: what the template can", caps)
    models = get_json(s, "/v1/models")["data"]
    demo = [m for m in models if m["id"] == "demo"][0]
    result(demo["meta"]["n_ctx"] == 1024 and demo["meta"]["n_ctx_train"] == 1024 and
           demo["status"]["value"] == "loaded" and "text" in demo["architecture"]["input_modalities"],
           "/v1/models: what editors look for", demo)
    result(get_json(s, "/models") == get_json(s, "/v1/models/"), "with and without /v1, and a slash")
    slots = get_json(s, "/slots")
    result(len(slots) == props["total_slots"] and all(not x["is_processing"] for x in slots), "/slots are idle", slots)
    result(s.get("/v1/models/none")[0] == 404, "an unknown model is 404")
    result(s.get("/v1/chat/completions")[0] == 405, "a known path with another method is 405")


def check_embedding(s):
    one = s.post("/embedding", {"content": "hello"})[2]
    same = s.post("/v1/embeddings", {"input": "hello"})[2]["data"][0]["embedding"]
    result(one[0]["embedding"][0] == same, "/embedding as /v1/embeddings")
    few = s.post("/v1/embeddings", {"input": "hello", "dimensions": 8})[2]["data"][0]["embedding"]
    result(len(few) == 8 and abs(sum(x * x for x in few) - 1) < 1e-5, "dimensions, of length 1 again", few)
    texts = ["the weather is sunny today", "it is a warm and sunny day", "12 * 7"]
    vectors = [d["embedding"] for d in s.post("/v1/embeddings", {"input": texts})[2]["data"]]
    together = [sum(a * b for a, b in zip(vectors[0], v)) for v in vectors]
    result(together[1] > together[2], "near texts have near vectors", together)


def check_truncation(s):
    turns = [{"role": "user" if i % 2 == 0 else "assistant", "content": "one two three " * 20} for i in range(40)]
    turns.append({"role": "user", "content": "What is the capital of Peru?"})
    status, _, body = s.post("/v1/responses", {"model": "demo", "input": turns, "temperature": 0})
    result(status == 400 and body["error"]["code"] == "context_length_exceeded", "too long is refused", body)
    status, head, body = s.post("/v1/responses", {"model": "demo", "input": turns, "temperature": 0,
                                                  "truncation": "auto", "max_output_tokens": 64})
    result(status == 200 and "turns were dropped" in head.get("x-slm-warning", ""),
           "with truncation auto the oldest turns go, and the header says so", status, head, body)


def main():
    with Server() as s:
        check_completion(s)
        check_tokens(s)
        check_props(s)
        check_embedding(s)
        check_truncation(s)
    finish()


main()
