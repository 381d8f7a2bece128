/* option_table.c - every command and option of the program, once. Data only; options.c parses by it,
 * help.c, manpage.c and completions.c print it. */
#include "cli/options.h"

#define ON(name) (1u << CMD_##name)
#define SHAPES (ON(HOME) | ON(RUN) | ON(CHAT) | ON(COMPLETE))
#define ANSWERS (SHAPES | ON(AGENT))
#define TALKS (ON(HOME) | ON(RUN) | ON(CHAT) | ON(AGENT))
#define DECIDES (ON(CLASSIFY) | ON(EXTRACT))
#define COMPUTES (ANSWERS | DECIDES | ON(LOGITS) | ON(BENCH) | ON(SERVE))
#define EVERYWHERE 0xffffffffu

const char *const group_titles[GROUP_COUNT] = {
    [GROUP_ANSWER] = "Answer",   [GROUP_SAMPLING] = "Sampling", [GROUP_CHAT] = "Conversations",
    [GROUP_AGENT] = "Tools",     [GROUP_SERVER] = "Server",     [GROUP_INPUT] = "Options",
    [GROUP_MACHINE] = "Machine", [GROUP_GENERAL] = "General",
};

const struct command_row command_table[CMD_COUNT] = {
    [CMD_HOME] = { "", "",
                   "what this machine is, which models fit it, and a chat with the best one", NULL,
                   NULL, 0, 0, PLACE_NONE, PLACE_NONE },
    [CMD_RUN] = { "run", "MODEL [PROMPT...]", "one answer, streamed to standard output",
                  "Several words of PROMPT are joined by spaces. '-' reads the prompt from "
                  "standard input; what is piped in "
                  "beside a PROMPT is put after it. Reasoning is shown dim on a terminal and left "
                  "out elsewhere.\n\n"
                  "A prompt that does not fit the context is refused; nothing is ever dropped.",
                  "slm run demo What is the capital of Peru?\n"
                  "slm run qwen3-0.6b --think off 'Name three rivers.'\n"
                  "git diff | slm run smollm3-3b 'Write a commit message for this:'",
                  1, 4096, PLACE_MODEL, PLACE_TEXT },
    [CMD_CHAT] = { "chat", "[MODEL]", "conversation with history, saved after every turn",
                   "A line ending in a backslash goes on in the next; a block between two lines of "
                   "\"\"\" is one message. "
                   "/help lists what can be typed. Finished turns are on disk at once: a chat that "
                   "was killed goes on "
                   "with --resume. Without a terminal on standard input, each line is a message.",
                   "slm chat demo\n"
                   "slm chat qwen3-0.6b --resume\n"
                   "slm chat --list",
                   0, 1, PLACE_MODEL, PLACE_NONE },
    [CMD_COMPLETE] = { "complete", "MODEL TEXT...",
                       "continuation of raw text, without the chat template",
                       "The text goes to the model as it is, after the start token where the model "
                       "wants one; '-' reads it from "
                       "standard input. Control tokens in it count.",
                       "slm complete gemma-3-270m-it 'The three primary colours are' -n 20", 2,
                       4096, PLACE_MODEL, PLACE_TEXT },
    [CMD_MODELS] = { "models", "[ID]",
                     "the known models: what they are, and what fits and is on disk here",
                     "With an ID the whole card: sizes, context, languages, thinking, tools, "
                     "licence, recommended sampling, "
                     "published scores with their sources, files on the hub and on this disk.",
                     "slm models\n"
                     "slm models qwen3-0.6b",
                     0, 1, PLACE_ID, PLACE_NONE },
    [CMD_PLAN] = { "plan", "MODEL", "exact memory before loading",
                   "Weights, keys and values, scratch and total for one or several contexts, "
                   "against the memory of this "
                   "machine. Exit code 4 when none of them fits, with the largest that would. A "
                   "known model that is not on "
                   "disk is estimated from its table and marked so.",
                   "slm plan qwen3-0.6b\n"
                   "slm plan gemma-3-4b-it --context 8192,32768,131072 --kv q8",
                   1, 1, PLACE_MODEL, PLACE_NONE },
    [CMD_INFO] = { "info", "PATH",
                   "what is in a file: container, tensors, metadata, template, trust",
                   "PATH is a GGUF file, a folder in Hugging Face layout, or any MODEL. The file "
                   "is read as far as needed for "
                   "that, and checked; nothing is computed with it.",
                   "slm info Qwen3-0.6B-Q8_0.gguf --tensors", 1, 1, PLACE_MODEL, PLACE_NONE },
    [CMD_PULL] = { "pull", "ID", "fetch a known model from the hub, resumable and verified",
                   "ID is a known model, or a repository as org/name. The files go into the "
                   "ordinary Hugging Face cache, so that "
                   "other programs find them there and nothing is fetched twice. What was "
                   "interrupted goes on where it stopped; "
                   "every file is checked against its hash before it gets its name. --quant "
                   "safetensors takes the maker's own "
                   "repository. Only this command fetches "
                   "anything; agent talks to the servers of its file.\n\n"
                   "HF_TOKEN (sent to the hub's own host only), HF_ENDPOINT, HF_HUB_OFFLINE, "
                   "HF_HOME and HF_HUB_CACHE are "
                   "honoured. SLM_HUB_STALL_S is the silence in seconds after which a connection "
                   "counts as lost (30), "
                   "SLM_HUB_WAIT_MS the first pause before another try (1000).",
                   "slm pull qwen3-0.6b\n"
                   "slm pull gemma-3-4b-it --quant q4_k_m\n"
                   "slm pull Qwen/Qwen3-0.6B --dry-run",
                   1, 1, PLACE_ID, PLACE_NONE },
    [CMD_QUANTIZE] = { "quantize", "IN OUT", "write a GGUF file with another weight type",
                       "IN is any MODEL. OUT appears under its name only when it is complete.",
                       "slm quantize ./Qwen3-0.6B qwen3-q8.gguf --type q8_0", 2, 2, PLACE_MODEL,
                       PLACE_FILE },
    [CMD_BENCH] = { "bench", "MODEL | --machine",
                    "prefill and decode speed, and their share of this machine's limits",
                    "Each round evaluates a prompt of random ids and then ids one by one, from the "
                    "depth on. Medians over the rounds, every sample with --json and --csv. The "
                    "limit counts the bytes that have to be read and the multiplications that have "
                    "to be done, over what the machine itself reaches in the same run. Rounds "
                    "beside which the machine was slow are repeated, and that is said.\n\n"
                    "With --schema it is measured what holding answers to that schema costs and "
                    "gains: the time of the mask per token and its share, and decoding free, held, "
                    "and held with the tokens that have to come evaluated together.\n\n"
                    "CMD is a command with arguments, run without a shell; bench/peers.sh of the "
                    "sources installs llama.cpp and prints it.",
                    "slm bench qwen3-0.6b -p 512 -n 128 -r 5 --json\n"
                    "slm bench qwen3-0.6b --full --csv\n"
                    "slm bench model.gguf --depth 0,4096 --peer llama-bench\n"
                    "slm bench qwen3-0.6b --schema record.json\n"
                    "slm bench --machine",
                    0, 1, PLACE_MODEL, PLACE_NONE },
    [CMD_TOKENIZE] = { "tokenize", "MODEL [TEXT]", "text to token ids",
                       "Without TEXT all of standard input is one text. With --jsonl each input "
                       "line is {\"text\": ...} and gives "
                       "{\"ids\": [...]}; \"special\": false keeps control tokens in the text as "
                       "text, \"bos\": true puts the start "
                       "token in front. A line that fails gives {\"error\": ...}. A folder with "
                       "only tokenizer files suffices.",
                       "slm tokenize demo 'Hello world'\n"
                       "slm tokenize demo --jsonl < texts.jsonl",
                       1, 2, PLACE_MODEL, PLACE_TEXT },
    [CMD_DETOKENIZE] = { "detokenize", "MODEL [IDS...]", "token ids to text",
                         "IDS are numbers with commas or spaces between them. Without IDS standard "
                         "input is read, one list per "
                         "line; a line {\"ids\": [...]} gives {\"text\": ...}.",
                         "slm detokenize demo 345,198,1202", 1, 4096, PLACE_MODEL, PLACE_TEXT },
    [CMD_RENDER] = { "render", "MODEL",
                     "conversations to prompt text, as the model's own template wants it",
                     "Each input line is {\"messages\": [...], \"kwargs\": {...}} and gives "
                     "{\"rendered\": ...} or {\"error\": ...}. "
                     "Without --jsonl all of standard input is one such object and the text itself "
                     "is printed. A folder with "
                     "only the template suffices.",
                     "slm render demo --jsonl < chats.jsonl", 1, 1, PLACE_MODEL, PLACE_NONE },
    [CMD_LOGITS] = { "logits", "MODEL",
                     "logits of a token sequence as a float32 NPY array [rows, vocab]",
                     "For checking. Without --split the whole sequence is evaluated at once. A "
                     "file without a tokenizer "
                     "suffices.",
                     "slm logits demo --ids 345,198,1202 --rows all --exact --out logits.npy", 1, 1,
                     PLACE_MODEL, PLACE_NONE },
    [CMD_SERVE] = { "serve", "[MODEL...]",
                    "HTTP server for OpenAI's, Anthropic's, Ollama's and llama-server's clients",
                    "The models named are loaded at the start, the first one answers requests that "
                    "name none; every other model on this disk, and demo, is loaded when it is "
                    "asked "
                    "for, as far as --max-memory allows. Only this machine can reach the server "
                    "unless --host says otherwise, and then a key is wanted. The address is "
                    "printed "
                    "on standard output, what happens as JSON lines on standard error.\n\n"
                    "A key file has lines of NAME KEY and, after these, rpm=N, concurrent=N and "
                    "tpm=N "
                    "as limits; KEY may be sha256: and the hash of the key. SIGTERM lets running "
                    "answers end, a second one ends them. Under systemd, NOTIFY_SOCKET, "
                    "WATCHDOG_USEC "
                    "and a credential named slm-keys are honoured.",
                    "slm serve demo\n"
                    "slm serve qwen3-0.6b --port 11434 --parallel 8\n"
                    "slm serve --host 0.0.0.0 --keys keys.txt --tls-cert c.pem --tls-key k.pem",
                    0, 64, PLACE_MODEL, PLACE_MODEL },
    [CMD_DEPLOY] = { "deploy", "TARGET [MODEL...]",
                     "files for running the server elsewhere: haproxy, systemd, container",
                     "haproxy: a configuration of HAProxy 2.6 in front of several servers. Prompts "
                     "that begin alike go to the same one, which has evaluated that beginning; "
                     "what "
                     "does not fit waits; a server that fails is left out, and requests whose "
                     "answer "
                     "has not begun are given to another. The file of --tls-cert holds the "
                     "certificates "
                     "and the key.\n\n"
                     "systemd: a unit that may read its models and use its port, and nothing else, "
                     "with the path of this program, the models and the address. container: the "
                     "file that podman or docker builds an image from, in the sources' folder.\n\n"
                     "Everything goes to standard output; nothing is installed or started.",
                     "slm deploy haproxy --servers 10.0.0.1:8080,10.0.0.2:8080 > haproxy.cfg\n"
                     "slm deploy haproxy --servers a:8080,b:8080 --port 443 --tls-cert site.pem\n"
                     "slm deploy systemd qwen3-0.6b > /etc/systemd/system/slm.service\n"
                     "slm deploy container > Containerfile",
                     1, 65, PLACE_TEXT, PLACE_MODEL },
    [CMD_CLASSIFY] = { "classify", "MODEL [TEXT...]",
                       "probabilities of labels, for a text or for each row of a stream",
                       "A label counts as the whole answer: the model's own probabilities of its "
                       "tokens and of the end of the turn, without thinking. Rows are JSON Lines, "
                       "CSV with a line of names, or plain lines, from --input or a pipe; each "
                       "gives one record, in their order: label, probability, margin to the next, "
                       "mass (what the model gives to all labels as answers), probabilities. A row "
                       "that fails gives a record with an error, and exit code 1 at the end.\n\n"
                       "With --out FILE the same command goes on after it was killed: whole "
                       "records that FILE has are kept. Each carries a check of input and settings "
                       "so far; a file of other ones is refused.\n\n"
                       "--calibrate fits a temperature and a bias for each label to labelled rows, "
                       "and measures accuracy, likelihood, Brier score and calibration error "
                       "before and after, on rows that it was not fitted to. --evaluate measures.",
                       "slm classify demo --labels positive,negative 'I love it.'\n"
                       "slm classify gemma-3-4b-it --labels cat,dog pictures/*.jpg\n"
                       "slm classify demo --labels spam,ok --input mails.csv --out labels.csv\n"
                       "slm classify demo --labels a,b --calibrate known.csv --save-calibration ab",
                       1, 4096, PLACE_MODEL, PLACE_TEXT },
    [CMD_EXTRACT] = { "extract", "MODEL [TEXT...]",
                      "records by a JSON schema, from a text or from each row of a stream",
                      "The answer is held to the schema while it is written, so every record is "
                      "valid JSON of that form; its values are the model's. Greedy. Rows and "
                      "records as in slm classify, with the same going on after a kill: each row "
                      "gives {\"row\", \"id\", \"record\"} or an error, in their order. CSV "
                      "records have a column for each property of the schema, which then must be "
                      "flat.",
                      "slm extract demo --schema person.json 'Anna is 30 years old.'\n"
                      "slm extract qwen3-0.6b --schema bill.json -i mails.jsonl -o bills.csv",
                      1, 4096, PLACE_MODEL, PLACE_TEXT },
    [CMD_AGENT] = { "agent", "MODEL --mcp FILE PROMPT...",
                    "the model answers with the help of tools that MCP servers have",
                    "FILE is a configuration as other MCP clients have it: {\"mcpServers\": {NAME: "
                    "{\"command\", \"args\", \"env\", \"cwd\"} or {\"url\", \"headers\"}}}. The "
                    "servers are "
                    "started, the model is told of their tools, and each call that it writes is "
                    "made "
                    "and answered until it answers without one.\n\n"
                    "Every call needs consent: it is asked for on a terminal, and refused "
                    "elsewhere "
                    "unless --approve, --yes or \"autoApprove\" in FILE gives it. PATTERN is a "
                    "name, or "
                    "SERVER/TOOL, with * and ? in it. Servers run with the rights of who starts "
                    "them; "
                    "USAGE.md shows how to put them into a sandbox.",
                    "slm agent qwen3-4b-instruct-2507 --mcp mcp.json 'What is new in my notes?'\n"
                    "slm agent jan-v1-4b --mcp search.json --approve 'search*' 'Who won in 2022?'\n"
                    "slm agent qwen3-0.6b --mcp mcp.json --tools-cost",
                    1, 4096, PLACE_MODEL, PLACE_TEXT },
    [CMD_HELP] = { "help", "[COMMAND]",
                   "this text, one command's options, the man page, shell completions", NULL,
                   "slm help run\n"
                   "slm help --man | man -l -\n"
                   "source <(slm help --completions bash)",
                   0, 1, PLACE_COMMAND, PLACE_NONE },
};

const struct option_row option_table[OPT_COUNT] = {
    [OPT_SYSTEM] = { "system", 's', ARG_TEXT, 0, 0, "TEXT", NULL,
                     "system message in front of the conversation", GROUP_ANSWER, TALKS, false },
    [OPT_THINK] = { "think", 0, ARG_ENUM, 0, 0, "on|off",
                    "as the model does by itself; off for extract",
                    "reason before the answer, or not; an error for a model that cannot switch",
                    GROUP_ANSWER, TALKS | ON(EXTRACT), false },
    [OPT_THINK_BUDGET] = { "think-budget", 0, ARG_INT, 1, 1e9, "N", "no limit",
                           "close the reasoning after N tokens", GROUP_ANSWER, TALKS | ON(EXTRACT),
                           false },
    [OPT_SHOW_THINKING] = { "show-thinking", 0, ARG_FLAG, 0, 0, NULL, NULL,
                            "print the reasoning also where standard output is no terminal",
                            GROUP_ANSWER, TALKS, false },
    [OPT_TOOLS] = { "tools", 0, ARG_FILE, 0, 0, "FILE", NULL,
                    "JSON array of tools that the model may call; calls are printed, not made",
                    GROUP_ANSWER, TALKS & ~ON(AGENT), false },
    [OPT_TOOL_CHOICE] = { "tool-choice", 0, ARG_TEXT, 0, 0, "auto|none|required|NAME", "auto",
                          "whether a tool is called, or which; its arguments are valid by its "
                          "schema",
                          GROUP_ANSWER, ON(RUN), false },
    [OPT_SCHEMA] = { "schema", 0, ARG_FILE, 0, 0, "FILE", NULL,
                     "the answer is JSON by the JSON Schema in FILE (2020-12 or draft 7)",
                     GROUP_ANSWER, SHAPES | ON(EXTRACT) | ON(BENCH), false },
    [OPT_JSON_OBJECT] = { "json-object", 0, ARG_FLAG, 0, 0, NULL, NULL,
                          "the answer is a JSON object", GROUP_ANSWER, SHAPES, false },
    [OPT_CHOICES] = { "choices", 0, ARG_TEXT, 0, 0, "A,B,...", NULL,
                      "the answer is one of these; a JSON array where they have commas",
                      GROUP_ANSWER, SHAPES, false },
    [OPT_REGEX] = { "regex", 0, ARG_TEXT, 0, 0, "RE", NULL,
                    "the answer as a whole matches this regular expression", GROUP_ANSWER, SHAPES,
                    false },
    [OPT_MAX_TOKENS] = { "max-tokens", 'n', ARG_INT, 1, 1e9, "N", "until the context is full",
                         "most tokens to write, reasoning included", GROUP_ANSWER,
                         ANSWERS | ON(EXTRACT), false },
    [OPT_STOP] = { "stop", 0, ARG_TEXT, 0, 0, "TEXT", NULL,
                   "end before TEXT would be written; may be repeated", GROUP_ANSWER, ANSWERS,
                   true },
    [OPT_SPECULATE] = { "speculate", 0, ARG_ENUM, 0, 0, "off|lookup", "lookup",
                        "guess tokens from what was written before and check several at a time; "
                        "the text is the same",
                        GROUP_MACHINE, ANSWERS | ON(SERVE), false },
    [OPT_DRAFT] = { "draft", 0, ARG_TEXT, 0, 0, "MODEL", NULL,
                    "a smaller model with the same tokenizer that guesses too; the text is the "
                    "same",
                    GROUP_MACHINE, ANSWERS, false },
    [OPT_PROMPT_CACHE] = { "prompt-cache", 0, ARG_FILE, 0, 0, "DIR", NULL,
                           "keep what prompts were evaluated to in DIR and begin there next time",
                           GROUP_MACHINE, ANSWERS | ON(SERVE), false },
    [OPT_IMAGE] = { "image", 0, ARG_FILE, 0, 0, "FILE", NULL,
                    "a picture before the prompt (JPEG, PNG or WebP, up to 10 MiB and 40 "
                    "megapixels); "
                    "may be repeated",
                    GROUP_ANSWER, ON(RUN) | ON(LOGITS), true },
    [OPT_ROW_PICTURES] = { "pictures", 0, ARG_FLAG, 0, 0, NULL, NULL,
                           "rows are names of pictures, which the model is shown", GROUP_INPUT,
                           ON(CLASSIFY), false },
    [OPT_PAN_SCAN] = { "pan-scan", 0, ARG_FLAG, 0, 0, NULL, NULL,
                       "also show up to four crops of pictures that are far from square",
                       GROUP_ANSWER, ON(RUN) | ON(CHAT) | ON(CLASSIFY) | ON(LOGITS), false },
    [OPT_NO_EXIF] = { "no-exif", 0, ARG_FLAG, 0, 0, NULL, NULL,
                      "show pictures as they are stored, not the way up that the camera noted",
                      GROUP_ANSWER, ON(RUN) | ON(CHAT) | ON(CLASSIFY) | ON(LOGITS), false },
    [OPT_MMPROJ] = { "mmproj", 0, ARG_FILE, 0, 0, "FILE", "the mmproj*.gguf beside a GGUF model",
                     "the model's image tower", GROUP_ANSWER,
                     ON(RUN) | ON(CHAT) | ON(CLASSIFY) | ON(LOGITS), false },
    [OPT_PIXELS] = { "pixels", 0, ARG_FILE, 0, 0, "FILE.npy", NULL,
                     "pictures as float32 [n, 3, side, side], for the image ids among --ids",
                     GROUP_INPUT, ON(LOGITS), false },
    [OPT_ECHO] = { "echo", 0, ARG_FLAG, 0, 0, NULL, NULL, "print the given text first",
                   GROUP_ANSWER, ON(COMPLETE), false },

    [OPT_GREEDY] = { "greedy", 0, ARG_FLAG, 0, 0, NULL, NULL,
                     "always the likeliest token; no sampling", GROUP_SAMPLING, ANSWERS, false },
    [OPT_TEMP] = { "temp", 0, ARG_FLOAT, 0, 100, "T", "the model's", "temperature; 0 is greedy",
                   GROUP_SAMPLING, ANSWERS, false },
    [OPT_TOP_K] = { "top-k", 0, ARG_INT, 0, 1e9, "K", "the model's",
                    "only the K likeliest tokens; 0 is off", GROUP_SAMPLING, ANSWERS, false },
    [OPT_TOP_P] = { "top-p", 0, ARG_FLOAT, 0, 1, "P", "the model's",
                    "only the likeliest tokens that make up P together; 1 is off", GROUP_SAMPLING,
                    ANSWERS, false },
    [OPT_MIN_P] = { "min-p", 0, ARG_FLOAT, 0, 1, "P", "the model's",
                    "only tokens at least P times as likely as the likeliest; 0 is off",
                    GROUP_SAMPLING, ANSWERS, false },
    [OPT_TYPICAL_P] = { "typical-p", 0, ARG_FLOAT, 0, 1, "P", "the model's",
                        "only the most typical tokens that make up P; 1 is off", GROUP_SAMPLING,
                        ANSWERS, false },
    [OPT_REPEAT_PENALTY] = { "repeat-penalty", 0, ARG_FLOAT, 0.01, 100, "R", "the model's",
                             "divides the score of tokens seen before; 1 is off", GROUP_SAMPLING,
                             ANSWERS, false },
    [OPT_PRESENCE_PENALTY] = { "presence-penalty", 0, ARG_FLOAT, -100, 100, "A", "the model's",
                               "subtracted once from tokens written before; 0 is off",
                               GROUP_SAMPLING, ANSWERS, false },
    [OPT_FREQUENCY_PENALTY] = { "frequency-penalty", 0, ARG_FLOAT, -100, 100, "A", "the model's",
                                "subtracted for each time a token was written; 0 is off",
                                GROUP_SAMPLING, ANSWERS, false },
    [OPT_LOGIT_BIAS] = { "logit-bias", 0, ARG_TEXT, 0, 0, "ID=B", NULL,
                         "add B to the score of token ID ('-inf' bans it); may be repeated",
                         GROUP_SAMPLING, ANSWERS, true },
    [OPT_SEED] = { "seed", 0, ARG_TEXT, 0, 0, "N", "0", "same seed, same text; 'random' draws one",
                   GROUP_SAMPLING, ANSWERS, false },

    [OPT_RESUME] = { "resume", 0, ARG_OPTIONAL, 0, 0, "NAME", NULL,
                     "go on with the last conversation with MODEL, or with =NAME or =NUMBER",
                     GROUP_CHAT, ON(CHAT), false },
    [OPT_LIST_CHATS] = { "list", 0, ARG_FLAG, 0, 0, NULL, NULL, "list the saved conversations",
                         GROUP_CHAT, ON(CHAT), false },
    [OPT_DELETE_CHAT] = { "delete", 0, ARG_TEXT, 0, 0, "NAME", NULL,
                          "delete a saved conversation by name or number", GROUP_CHAT, ON(CHAT),
                          false },
    [OPT_NO_SAVE] = { "no-save", 0, ARG_FLAG, 0, 0, NULL, NULL,
                      "keep nothing of this conversation on disk", GROUP_CHAT, ON(CHAT) | ON(HOME),
                      false },

    [OPT_HOST] = { "host", 0, ARG_TEXT, 0, 0, "ADDRESS", "127.0.0.1",
                   "address to listen on; one that others reach wants --keys", GROUP_SERVER,
                   ON(SERVE) | ON(DEPLOY), false },
    [OPT_PORT] = { "port", 0, ARG_INT, 0, 65535, "N", "8080", "0 lets the system choose",
                   GROUP_SERVER, ON(SERVE) | ON(DEPLOY), false },
    [OPT_TLS_CERT] = { "tls-cert", 0, ARG_FILE, 0, 0, "FILE", NULL,
                       "certificate chain, PEM: serve HTTPS", GROUP_SERVER, ON(SERVE) | ON(DEPLOY),
                       false },
    [OPT_TLS_KEY] = { "tls-key", 0, ARG_FILE, 0, 0, "FILE", NULL, "its private key, PEM",
                      GROUP_SERVER, ON(SERVE), false },
    [OPT_KEYS] = { "keys", 0, ARG_FILE, 0, 0, "FILE", NULL, "who may ask, a line each; mode 600",
                   GROUP_SERVER, ON(SERVE) | ON(DEPLOY), false },
    [OPT_INSECURE_NO_KEY] = { "insecure-no-key", 0, ARG_FLAG, 0, 0, NULL, NULL,
                              "other machines may ask without a key", GROUP_SERVER, ON(SERVE),
                              false },
    [OPT_ALLOW_HOST] = { "allow-host", 0, ARG_TEXT, 0, 0, "NAME", NULL,
                         "a Host header beyond addresses, localhost and this machine's name; may "
                         "be "
                         "repeated",
                         GROUP_SERVER, ON(SERVE), true },
    [OPT_ALLOW_ORIGIN] = { "allow-origin", 0, ARG_TEXT, 0, 0, "ORIGIN", NULL,
                           "web pages of ORIGIN (https://app.example, or *) may ask; may be "
                           "repeated",
                           GROUP_SERVER, ON(SERVE), true },
    [OPT_PARALLEL] = { "parallel", 0, ARG_INT, 1, 256, "N", "4", "answers at once from each model",
                       GROUP_SERVER, ON(SERVE) | ON(DEPLOY), false },
    [OPT_QUEUE] = { "queue", 0, ARG_INT, 0, 100000, "N", "64",
                    "requests that may wait for each model; more get 429", GROUP_SERVER, ON(SERVE),
                    false },
    [OPT_QUEUE_TOKENS] = { "queue-tokens", 0, ARG_INT, 1, 1e12, "N", "1048576",
                           "tokens of their prompts together", GROUP_SERVER, ON(SERVE), false },
    [OPT_TIMEOUT] = { "timeout", 0, ARG_INT, 1, 1e6, "S", "3600", "most seconds for one request",
                      GROUP_SERVER, ON(SERVE) | ON(DEPLOY), false },
    [OPT_DRAIN] = { "drain", 0, ARG_INT, 0, 1e6, "S", "30",
                    "seconds for running answers after SIGTERM", GROUP_SERVER, ON(SERVE), false },
    [OPT_DRAIN_DELAY] = { "drain-delay", 0, ARG_INT, 0, 1e6, "S", "5; on loopback 0",
                          "seconds before that in which requests are still taken", GROUP_SERVER,
                          ON(SERVE), false },
    [OPT_UNLOAD_AFTER] = { "unload-after", 0, ARG_INT, 0, 1e9, "S", "0: when memory is wanted",
                           "unload a model that nobody asked for S seconds", GROUP_SERVER,
                           ON(SERVE), false },
    [OPT_CACHE_MEMORY] = { "cache-memory", 0, ARG_SIZE, 0, 0, "SIZE", "256M",
                           "of each model, for prompts that begin alike", GROUP_SERVER, ON(SERVE),
                           false },
    [OPT_SHARE_CACHE] = { "share-cache", 0, ARG_FLAG, 0, 0, NULL, NULL,
                          "prompts of different keys may share what was evaluated", GROUP_SERVER,
                          ON(SERVE), false },
    [OPT_CONNECTIONS] = { "connections", 0, ARG_INT, 8, 60000, "N", "1024", "most at once",
                          GROUP_SERVER, ON(SERVE), false },
    [OPT_CONNECTIONS_PER_IP] = { "connections-per-ip", 0, ARG_INT, 1, 60000, "N",
                                 "32; from this machine no limit", "most from one address",
                                 GROUP_SERVER, ON(SERVE), false },
    [OPT_MAX_BODY] = { "max-body", 0, ARG_SIZE, 0, 0, "SIZE", "32M", "largest request",
                       GROUP_SERVER, ON(SERVE), false },
    [OPT_METRICS_NAMES] = { "metrics-names", 0, ARG_ENUM, 0, 0, "slm|vllm|llamacpp", "slm",
                            "names at /metrics beside slm_'s own", GROUP_SERVER, ON(SERVE), false },
    [OPT_LOG_PROMPTS] = { "log-prompts", 0, ARG_FLAG, 0, 0, NULL, NULL,
                          "write the beginning of each request to the log", GROUP_SERVER, ON(SERVE),
                          false },
    [OPT_NO_PAGE] = { "no-page", 0, ARG_FLAG, 0, 0, NULL, NULL, "no web page at /", GROUP_SERVER,
                      ON(SERVE), false },
    [OPT_PARAMETERS] = { "parameters", 0, ARG_FLAG, 0, 0, NULL, NULL,
                         "print the parameters that requests may have, as Markdown", GROUP_SERVER,
                         ON(SERVE), false },
    [OPT_SERVERS] = { "servers", 0, ARG_TEXT, 0, 0, "LIST", NULL,
                      "addresses of the servers: host:port,host:port,...", GROUP_SERVER, ON(DEPLOY),
                      false },
    [OPT_SERVERS_CA] = { "servers-ca", 0, ARG_FILE, 0, 0, "FILE", NULL,
                         "who signed the servers' certificates, PEM: speak TLS to them",
                         GROUP_SERVER, ON(DEPLOY), false },
    [OPT_READ_AHEAD] = { "read-ahead", 0, ARG_SIZE, 0, 0, "SIZE", "256K",
                         "of each request, to find its server and to send it again", GROUP_SERVER,
                         ON(DEPLOY), false },
    [OPT_QUEUE_TIME] = { "queue-time", 0, ARG_INT, 1, 1e6, "S", "60",
                         "seconds that a request may wait for a server", GROUP_SERVER, ON(DEPLOY),
                         false },
    [OPT_STATS_PORT] = { "stats-port", 0, ARG_INT, 0, 65535, "N", "8404",
                         "state of the servers, on this machine only; 0: none", GROUP_SERVER,
                         ON(DEPLOY), false },

    [OPT_TENSORS] = { "tensors", 0, ARG_FLAG, 0, 0, NULL, NULL, "list every tensor", GROUP_INPUT,
                      ON(INFO), false },
    [OPT_META] = { "meta", 0, ARG_FLAG, 0, 0, NULL, NULL, "list every metadata entry", GROUP_INPUT,
                   ON(INFO), false },
    [OPT_QUANT] = { "quant", 0, ARG_TEXT, 0, 0, "Q", "q8_0 where there is one",
                    "which file, as 'slm models ID' lists them", GROUP_INPUT, ON(PULL), false },
    [OPT_REPO] = { "repo", 0, ARG_TEXT, 0, 0, "ORG/NAME", NULL,
                   "from this repository instead of the one in the table", GROUP_INPUT, ON(PULL),
                   false },
    [OPT_PULL_FILE] = { "file", 0, ARG_TEXT, 0, 0, "NAME", NULL,
                        "this file of the repository and no other", GROUP_INPUT, ON(PULL), false },
    [OPT_REVISION] = { "revision", 0, ARG_TEXT, 0, 0, "REV", "main", "branch, tag or commit",
                       GROUP_INPUT, ON(PULL), false },
    [OPT_YES] = { "yes", 'y', ARG_FLAG, 0, 0, NULL, NULL, "do not ask before fetching", GROUP_INPUT,
                  ON(PULL), false },
    [OPT_MCP] = { "mcp", 0, ARG_FILE, 0, 0, "FILE", NULL,
                  "which servers there are, in the \"mcpServers\" shape (required)", GROUP_AGENT,
                  ON(AGENT), false },
    [OPT_ALLOW_TOOL] = { "allow-tool", 0, ARG_TEXT, 0, 0, "PATTERN", "all",
                         "tell the model of these tools only; may be repeated", GROUP_AGENT,
                         ON(AGENT), true },
    [OPT_DENY_TOOL] = { "deny-tool", 0, ARG_TEXT, 0, 0, "PATTERN", NULL,
                        "but not of these; may be repeated", GROUP_AGENT, ON(AGENT), true },
    [OPT_MAX_TOOLS] = { "max-tools", 0, ARG_INT, 1, 1e6, "N", "no limit",
                        "refuse to begin with more tools", GROUP_AGENT, ON(AGENT), false },
    [OPT_TOOLS_COST] = { "tools-cost", 0, ARG_FLAG, 0, 0, NULL, NULL,
                         "print what each tool costs of the context, and end", GROUP_AGENT,
                         ON(AGENT), false },
    [OPT_APPROVE] = { "approve", 0, ARG_TEXT, 0, 0, "PATTERN", NULL,
                      "consent to calls of these tools; may be repeated", GROUP_AGENT, ON(AGENT),
                      true },
    [OPT_APPROVE_ALL] = { "yes", 'y', ARG_FLAG, 0, 0, NULL, NULL, "consent to every call",
                          GROUP_AGENT, ON(AGENT), false },
    [OPT_MAX_STEPS] = { "max-steps", 0, ARG_INT, 1, 1e6, "N", "16",
                        "most answers of the model, those with calls included", GROUP_AGENT,
                        ON(AGENT), false },
    [OPT_ALLOW_REPEATS] = { "allow-repeats", 0, ARG_FLAG, 0, 0, NULL, NULL,
                            "make a call again that was made with the same arguments", GROUP_AGENT,
                            ON(AGENT), false },
    [OPT_MAX_RESULT] = { "max-result", 0, ARG_SIZE, 0, 0, "SIZE", "256K",
                         "cut results of tools there, with a mark", GROUP_AGENT, ON(AGENT), false },
    [OPT_RESULT_TOKENS] = { "result-tokens", 0, ARG_INT, 1, 1e9, "N", "a quarter of the context",
                            "cut them at N tokens as well", GROUP_AGENT, ON(AGENT), false },
    [OPT_TRANSCRIPT] = { "transcript", 0, ARG_FILE, 0, 0, "FILE", NULL,
                         "append everything that happens to FILE, a JSON object per line",
                         GROUP_AGENT, ON(AGENT), false },
    [OPT_SERVER_LOG] = { "server-log", 0, ARG_FLAG, 0, 0, NULL, NULL,
                         "show what servers log and write to standard error", GROUP_AGENT,
                         ON(AGENT), false },
    [OPT_DRY_RUN] = { "dry-run", 0, ARG_FLAG, 0, 0, NULL, NULL,
                      "list the files with their sizes, fetch nothing", GROUP_INPUT, ON(PULL),
                      false },
    [OPT_TYPE] = { "type", 0, ARG_TEXT, 0, 0, "T", NULL,
                   "weight type to write: q8_0, q4_k_m, bf16, ... (required)", GROUP_INPUT,
                   ON(QUANTIZE), false },
    [OPT_FORCE] = { "force", 'f', ARG_FLAG, 0, 0, NULL, NULL, "replace OUT when it is there",
                    GROUP_INPUT, ON(QUANTIZE), false },
    [OPT_BENCH_PROMPT] = { "prompt-tokens", 'p', ARG_INT, 1, 1e7, "N", "512", "tokens of prompt",
                           GROUP_INPUT, ON(BENCH), false },
    [OPT_BENCH_OUTPUT] = { "output-tokens", 'n', ARG_INT, 1, 1e7, "N", "128", "tokens to write",
                           GROUP_INPUT, ON(BENCH), false },
    [OPT_BENCH_DEPTH] = { "depth", 'd', ARG_INTS, 0, 1e7, "N,...", "0",
                          "tokens already in the context, a table row each", GROUP_INPUT, ON(BENCH),
                          false },
    [OPT_BENCH_ROUNDS] = { "repeat", 'r', ARG_INT, 1, 1000, "N", "5", "rounds", GROUP_INPUT,
                           ON(BENCH), false },
    [OPT_BENCH_BATCH] = { "batch", 'b', ARG_INTS, 1, 1024, "N,...", "1",
                          "sequences decoded together, a table row each", GROUP_INPUT, ON(BENCH),
                          false },
    [OPT_BENCH_FULL] = { "full", 0, ARG_FLAG, 0, 0, NULL, NULL,
                         "depths 0, 4096, 16384 and batches 1, 4, 16, as far as they fit",
                         GROUP_INPUT, ON(BENCH), false },
    [OPT_BENCH_MACHINE] = { "machine", 0, ARG_FLAG, 0, 0, NULL, NULL,
                            "no MODEL: every limit of this machine, in 3 s", GROUP_INPUT, ON(BENCH),
                            false },
    [OPT_BENCH_PEER] = { "peer", 0, ARG_TEXT, 0, 0, "CMD", NULL,
                         "in turns with llama-bench, run as CMD, on the same file", GROUP_INPUT,
                         ON(BENCH), false },
    [OPT_BENCH_PEER_TIMEOUT] = { "peer-timeout", 0, ARG_INT, 1, 1e6, "S", "3600",
                                 "end a run of the peer after S seconds", GROUP_INPUT, ON(BENCH),
                                 false },
    [OPT_CSV] = { "csv", 0, ARG_FLAG, 0, 0, NULL, NULL,
                  "one line per round and kind, with a line of names first", GROUP_INPUT, ON(BENCH),
                  false },
    [OPT_JSONL] = { "jsonl", 0, ARG_FLAG, 0, 0, NULL, NULL, "one JSON object per line, in and out",
                    GROUP_INPUT, ON(TOKENIZE) | ON(DETOKENIZE) | ON(RENDER), false },
    [OPT_BOS] = { "bos", 0, ARG_FLAG, 0, 0, NULL, NULL,
                  "start token in front where the model wants one", GROUP_INPUT, ON(TOKENIZE),
                  false },
    [OPT_DATA] = { "data", 0, ARG_FLAG, 0, 0, NULL, NULL, "control tokens in the text stay text",
                   GROUP_INPUT, ON(TOKENIZE), false },
    [OPT_SKIP_SPECIAL] = { "skip-special", 0, ARG_FLAG, 0, 0, NULL, NULL,
                           "leave control tokens out of the text", GROUP_INPUT, ON(DETOKENIZE),
                           false },
    [OPT_IDS] = { "ids", 0, ARG_TEXT, 0, 0, "1,2,3", NULL,
                  "the sequence; '-' reads it from standard input (required)", GROUP_INPUT,
                  ON(LOGITS), false },
    [OPT_SPLIT] = { "split", 0, ARG_INTS, 1, 1e7, "33,5,1", "one shot",
                    "evaluate in chunks of these sizes; the last one repeats", GROUP_INPUT,
                    ON(LOGITS), false },
    [OPT_ROWS] = { "rows", 0, ARG_ENUM, 0, 0, "all|last", "all", "which rows to write", GROUP_INPUT,
                   ON(LOGITS), false },
    [OPT_HIDDEN] = { "hidden", 0, ARG_FLAG, 0, 0, NULL, NULL,
                     "states after the final norm instead of logits", GROUP_INPUT, ON(LOGITS),
                     false },
    [OPT_OUT] = { "out", 'o', ARG_FILE, 0, 0, "FILE", "standard output",
                  "where to write; records of rows go on where FILE ends", GROUP_INPUT,
                  ON(LOGITS) | DECIDES, false },
    [OPT_LABELS] = { "labels", 'l', ARG_TEXT, 0, 0, "A,B,...", NULL, "the labels", GROUP_ANSWER,
                     ON(CLASSIFY), false },
    [OPT_LABELS_FILE] = { "labels-file", 0, ARG_FILE, 0, 0, "FILE", NULL,
                          "the labels, one per line; after a tab, what the label means",
                          GROUP_ANSWER, ON(CLASSIFY), false },
    [OPT_INSTRUCTION] = { "instruction", 0, ARG_TEXT, 0, 0, "TEXT", NULL,
                          "what it is about, in front of the list of labels or the schema",
                          GROUP_ANSWER, DECIDES, false },
    [OPT_TEMPLATE] = { "template", 0, ARG_TEXT, 0, 0, "TEXT", NULL,
                       "the user message; {text}, {labels} and {notes} are filled in", GROUP_ANSWER,
                       ON(CLASSIFY), false },
    [OPT_BY_LENGTH] = { "by-length", 0, ARG_FLAG, 0, 0, NULL, NULL,
                        "compare labels by the mean over their tokens, not the sum", GROUP_ANSWER,
                        ON(CLASSIFY), false },
    [OPT_BEGINNINGS] = { "beginnings", 0, ARG_FLAG, 0, 0, NULL, NULL,
                         "a label is the beginning of an answer, not all of it: faster",
                         GROUP_ANSWER, ON(CLASSIFY), false },
    [OPT_INPUT] = { "input", 'i', ARG_FILE, 0, 0, "FILE", NULL,
                    "read rows from FILE; '-' is standard input", GROUP_INPUT, DECIDES, false },
    [OPT_INPUT_FORMAT] = { "input-format", 0, ARG_ENUM, 0, 0, "jsonl|csv|lines",
                           "by the name, else jsonl where it begins with {, else lines",
                           "what the rows are", GROUP_INPUT, DECIDES, false },
    [OPT_FIELD] = { "field", 0, ARG_TEXT, 0, 0, "NAME", "text", "field or column with the text",
                    GROUP_INPUT, DECIDES, false },
    [OPT_ID_FIELD] = { "id-field", 0, ARG_TEXT, 0, 0, "NAME", "id",
                       "field or column that names a row; may be missing", GROUP_INPUT, DECIDES,
                       false },
    [OPT_LABEL_FIELD] = { "label-field", 0, ARG_TEXT, 0, 0, "NAME", "label",
                          "field or column with the right label", GROUP_INPUT, ON(CLASSIFY),
                          false },
    [OPT_OUTPUT_FORMAT] = { "output-format", 0, ARG_ENUM, 0, 0, "jsonl|csv",
                            "by the name of FILE, else jsonl", "what the records are", GROUP_INPUT,
                            DECIDES, false },
    [OPT_CALIBRATE] = { "calibrate", 0, ARG_FILE, 0, 0, "FILE", NULL,
                        "fit a calibration to labelled rows", GROUP_INPUT, ON(CLASSIFY), false },
    [OPT_SAVE_CALIBRATION] = { "save-calibration", 0, ARG_FILE, 0, 0, "FILE", NULL,
                               "write it to FILE", GROUP_INPUT, ON(CLASSIFY), false },
    [OPT_CALIBRATION] = { "calibration", 0, ARG_FILE, 0, 0, "FILE", NULL,
                          "use a calibration; refused where labels, prompt or model are others",
                          GROUP_INPUT, ON(CLASSIFY), false },
    [OPT_EVALUATE] = { "evaluate", 0, ARG_FILE, 0, 0, "FILE", NULL,
                       "accuracy, confusion and calibration error on labelled rows", GROUP_INPUT,
                       ON(CLASSIFY), false },
    [OPT_PARALLEL_ROWS] = { "parallel", 0, ARG_INT, 1, 1024, "N", "8", "rows answered at once",
                            GROUP_MACHINE, DECIDES, false },
    [OPT_DATE] = { "date", 0, ARG_DATE, 0, 0, "YYYY-MM-DD", "today", "the date that templates see",
                   GROUP_INPUT, TALKS | DECIDES | ON(RENDER), false },
    [OPT_FIXED_DATE] = { "deterministic-date", 0, ARG_FLAG, 0, 0, NULL, NULL,
                         "the same as --date 2025-07-08", GROUP_INPUT, TALKS | DECIDES | ON(RENDER),
                         false },
    [OPT_MAN] = { "man", 0, ARG_FLAG, 0, 0, NULL, NULL, "print the man page", GROUP_INPUT, ON(HELP),
                  false },
    [OPT_COMPLETIONS] = { "completions", 0, ARG_ENUM, 0, 0, "bash|zsh|fish", NULL,
                          "print completions for that shell", GROUP_INPUT, ON(HELP), false },

    [OPT_CONTEXT] = { "context", 'c', ARG_INT, 1, 1e9, "N",
                      "8192, or less where the model or the memory ends",
                      "positions to reserve memory for", GROUP_MACHINE,
                      ANSWERS | DECIDES | ON(MODELS) | ON(SERVE), false },
    [OPT_CONTEXTS] = { "context", 'c', ARG_INTS, 1, 1e9, "N,...", "a ladder up to the model's own",
                       "contexts to plan for", GROUP_MACHINE, ON(PLAN), false },
    [OPT_SEQUENCES] = { "sequences", 0, ARG_INT, 1, 1e6, "N", "1",
                        "plan for N conversations at once", GROUP_MACHINE, ON(PLAN), false },
    [OPT_KV] = { "kv", 0, ARG_ENUM, 0, 0, "f16|f32|bf16|q8", "f16",
                 "type of keys and values in memory", GROUP_MACHINE,
                 COMPUTES | ON(PLAN) | ON(MODELS), false },
    [OPT_CHUNK] = { "chunk", 0, ARG_INT, 1, 1e6, "N", "256", "prompt tokens evaluated together",
                    GROUP_MACHINE,
                    ANSWERS | DECIDES | ON(PLAN) | ON(MODELS) | ON(BENCH) | ON(SERVE), false },
    [OPT_MAX_MEMORY] = { "max-memory", 0, ARG_SIZE, 0, 0, "SIZE", "what is free",
                         "refuse to use more than SIZE (500M, 6G)", GROUP_MACHINE,
                         COMPUTES | ON(PLAN) | ON(MODELS), false },
    [OPT_EXACT] = { "exact", 0, ARG_FLAG, 0, 0, NULL, NULL,
                    "float32 throughout: slow, for checking", GROUP_MACHINE, COMPUTES, false },
    [OPT_NO_PACKED_CACHE] = { "no-packed-cache", 0, ARG_FLAG, 0, 0, NULL, NULL,
                              "neither use nor write packed weights in $SLM_HOME/packed",
                              GROUP_MACHINE, COMPUTES, false },
    [OPT_THREADS] = { "threads", 't', ARG_INT, 1, 1024, "N", "all CPUs of this process",
                      "threads to compute with", GROUP_MACHINE, EVERYWHERE, false },
    [OPT_ISA] = { "isa", 0, ARG_ENUM, 0, 0, "ref|avx2|avx512|amx|neon", "the best there is",
                  "highest instruction set to use", GROUP_MACHINE, EVERYWHERE, false },

    [OPT_JSON] = { "json", 'j', ARG_FLAG, 0, 0, NULL, NULL,
                   "results and errors as JSON on standard output", GROUP_GENERAL, EVERYWHERE,
                   false },
    [OPT_QUIET] = { "quiet", 'q', ARG_FLAG, 0, 0, NULL, NULL,
                    "no notes and no progress on standard error", GROUP_GENERAL, EVERYWHERE,
                    false },
    [OPT_HELP] = { "help", 'h', ARG_FLAG, 0, 0, NULL, NULL, "help on the command", GROUP_GENERAL,
                   EVERYWHERE, false },
    [OPT_VERSION] = { "version", 'V', ARG_FLAG, 0, 0, NULL, NULL, "print the version",
                      GROUP_GENERAL, EVERYWHERE, false },
};
