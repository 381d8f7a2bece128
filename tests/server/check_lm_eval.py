"""check_lm_eval.py - the requests that lm-evaluation-harness sends as `local-completions` and with a remote
tokenizer, and the sums that it makes of the answers, held against slm_classify's way of counting (one
token after the other by the server's own log-probabilities). Standard library only."""
import math

from serving import Server, finish, result

CONTEXT = "What is the capital of Peru? The capital of Peru is"
CHOICES = [" Lima.", " Paris.", " the moon."]


def score(answer, context_length):
    """(sum of log-probabilities, is it greedy) of each choice of an answer, as the harness counts"""
    scores = []
    for choice in sorted(answer["choices"], key=lambda c: c["index"]):
        logprobs = choice["logprobs"]["token_logprobs"][context_length:-1]
        tops = choice["logprobs"]["top_logprobs"][context_length:-1]
        greedy = all(p == max(top.values()) for p, top in zip(logprobs, tops))
        scores.append((sum(logprobs), greedy))
    return scores


def tokenizer_of(s):
    """encode and decode by the routes of a remote tokenizer"""
    def encode(text):
        return s.post("/tokenize", {"prompt": text, "add_special_tokens": False})[2]["tokens"]

    def decode(tokens):
        return s.post("/detokenize", {"tokens": tokens})[2]["prompt"]
    return encode, decode


def check_tokenizer(s):
    encode, decode = tokenizer_of(s)
    status, _, info = s.request("GET", "/tokenizer_info")
    result(status == 200 and all(key in info.decode() for key in ("eos_token", "bos_token", "pad_token", "chat_template")),
           "/tokenizer_info has what a remote tokenizer wants", info[:300])
    text = "Caf\u00e9 \U0001f98a 12 \u20ac"
    result(decode(encode(text)) == text, "text to ids to text", encode(text))
    result(s.post("/tokenize", {"content": text})[2]["tokens"] == encode(text), "content and prompt are one")
    result(s.post("/detokenize", {"tokens": encode(text)})[2]["content"] == text, "detokenize answers in both words")


def check_scores(s):
    encode, _ = tokenizer_of(s)
    context = encode(CONTEXT)
    prompts = [context + encode(choice) for choice in CHOICES]
    body = {"model": "demo", "prompt": prompts, "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True,
            "seed": 1234}
    status, _, answer = s.post("/v1/completions", body)
    result(status == 200 and len(answer["choices"]) == 3, "three choices are scored", answer)
    for prompt, choice in zip(prompts, answer["choices"]):
        l = choice["logprobs"]
        shape = {key: len(value) for key, value in l.items()}
        result(set(shape.values()) == {len(prompt) + 1}, "every id of the prompt and one more", shape)
        result(l["token_logprobs"][0] is None and l["top_logprobs"][0] is None, "the first has no probability")
    scores = score(answer, len(context))
    result(max(scores)[0] == scores[0][0], "the right choice is the likeliest", scores)
    alone = [score(s.post("/v1/completions", dict(body, prompt=[p]))[2], len(context))[0] for p in prompts]
    result(alone == scores, "asked one by one: the same to the last bit", alone, scores)
    for prompt, (total, _) in zip(prompts, scores):
        step = 0.0
        for at in range(len(context), len(prompt)):
            one = s.post("/v1/completions", dict(body, prompt=prompt[:at], echo=False, logprobs=20))[2]
            tops = one["choices"][0]["logprobs"]["top_logprobs"][0]
            name = s.post("/detokenize", {"tokens": [prompt[at]]})[2]["prompt"]
            step += tops.get(name, -math.inf)
        result(step == -math.inf or abs(step - total) < 1e-4, "the sum of its steps", step, total)
    greedy = s.post("/v1/completions", dict(body, prompt=[context], max_tokens=2, echo=False))[2]["choices"][0]
    result(scores[0][1] == CHOICES[0].startswith(greedy["text"]), "greedy is what would be written", greedy, scores)
    text = s.post("/v1/completions", dict(body, prompt=CONTEXT + CHOICES[0]))[2]["choices"][0]["logprobs"]
    result(text["token_logprobs"][1:-1] == answer["choices"][0]["logprobs"]["token_logprobs"][1:-1],
           "text and ids of a prompt have the same scores")
    status, _, wrong = s.post("/v1/completions", dict(body, prompt=[[1 << 30]]))
    result(status == 400, "an id beyond the vocabulary is refused", wrong)


def check_generation(s):
    """generate_until, and the chat mode of local-chat-completions"""
    body = {"model": "demo", "prompt": "Q: What is the capital of Peru?\nA:", "max_tokens": 16, "temperature": 0,
            "stop": ["\n", "Q:"], "seed": 1234}
    status, _, answer = s.post("/v1/completions", body)
    result(status == 200 and "\n" not in answer["choices"][0]["text"], "generation stops at the texts", answer)
    body = {"model": "demo", "messages": [{"role": "user", "content": "What is the capital of Peru?"}],
            "max_tokens": 64, "temperature": 0, "stop": ["\n\n\n"], "seed": 1234}
    status, _, answer = s.post("/v1/chat/completions", body)
    result(status == 200 and "Lima" in answer["choices"][0]["message"]["content"], "chat", answer)


def main():
    with Server() as s:
        check_tokenizer(s)
        check_scores(s)
        check_generation(s)
    finish()


main()
