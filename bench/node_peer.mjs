// node_peer.mjs - node-llama-cpp behind the options and the JSON of llama-bench, for slm bench --peer.
//
// usage: node node_peer.mjs -m FILE -t THREADS -p PROMPT -n OUTPUT -d DEPTH -r 1 -fa 0,1 -o json
//
// Prefill: PROMPT random ids after DEPTH others, no sampling. Decode: OUTPUT tokens, greedy; the time of
// the binding's own sampling and of JavaScript is in it, so the figure is a lower bound of what
// llama.cpp decodes.
import { readFileSync } from "node:fs";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const want = {};
for (let i = 2; i + 1 < process.argv.length; i += 2) want[process.argv[i].replace(/^-+/, "")] = process.argv[i + 1];
const number = (name, fallback) => {
    const value = want[name] === undefined ? fallback : Number(want[name]);
    if (!Number.isInteger(value) || value < 0) throw new Error(`-${name} is no number: ${want[name]}`);
    return value;
};
const prompt = number("p", 512), output = number("n", 128), depth = number("d", 0);
const threads = number("t", 0), repeat = number("r", 5);

let state = 12345;
const random = (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
};
const ids = (n) => Array.from({ length: n }, () => 100 + random(10000));

const rates = async (model, flash) => {
    const context = await model.createContext({
        contextSize: depth + prompt + output + 16, batchSize: 512, threads, flashAttention: flash,
    });
    const sequence = context.getSequence(), rate = { prompt: [], output: [] };
    const toDepth = async () => {
        await sequence.clearHistory();
        if (depth > 0) await sequence.evaluateWithoutGeneratingNewTokens(ids(depth));
    };
    for (let round = 0; round <= repeat; round++) { // the first one warms up
        await toDepth();
        let start = process.hrtime.bigint();
        await sequence.evaluateWithoutGeneratingNewTokens(ids(prompt));
        const prefill = prompt / (Number(process.hrtime.bigint() - start) / 1e9);
        await toDepth();
        let n = 0;
        for await (const _ of sequence.evaluate(ids(1), { temperature: 0, yieldEogToken: true })) {
            if (n === 0) start = process.hrtime.bigint(); // the first one is of the prompt
            if (n++ === output) break;
        }
        if (n <= output) throw new Error(`the model stopped after ${n} tokens`);
        const decode = output / (Number(process.hrtime.bigint() - start) / 1e9);
        if (round > 0) rate.prompt.push(prefill), rate.output.push(decode);
    }
    await context.dispose();
    return rate;
};

const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
const llama = await getLlama({ gpu: false, build: "never", maxThreads: threads, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: want.m, gpuLayers: 0 });
const about = new URL("node_modules/node-llama-cpp/package.json", import.meta.url);
const build = JSON.parse(readFileSync(about, "utf8")).version;
const rows = [];
for (const flash of (want.fa ?? "0,1").split(",")) {
    const rate = await rates(model, flash === "1");
    const row = { build_commit: "node-llama-cpp " + build, build_number: 0, flash_attn: Number(flash), n_depth: depth };
    rows.push({ ...row, n_prompt: prompt, n_gen: 0, avg_ts: mean(rate.prompt), samples_ts: rate.prompt });
    rows.push({ ...row, n_prompt: 0, n_gen: output, avg_ts: mean(rate.output), samples_ts: rate.output });
}
console.log(JSON.stringify(rows, null, 2));
process.exit(0); // the binding keeps threads
