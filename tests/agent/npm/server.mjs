// server.mjs - a server made with the official TypeScript SDK: get_weather, big, kinds, slow.
//
// usage: node server.mjs                over standard input and output
//        node server.mjs PORTFILE MODE  over streamable HTTP on 127.0.0.1; MODE is "sessions" (event
//                                       streams), "json" (plain answers) or "stateless"
import { randomUUID } from "node:crypto";
import { renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { z } from "zod";

function make() {
    const server = new McpServer({ name: "sdk-server", version: "2.0" });
    const sky = { temperature: 18, condition: "sunny" };
    server.registerTool("get_weather", {
        description: "Get the weather in a city",
        inputSchema: { city: z.string().describe("The city") },
        outputSchema: { temperature: z.number(), condition: z.string() },
    }, async () => ({ content: [{ type: "text", text: JSON.stringify(sky) }], structuredContent: sky }));
    server.registerTool("slow", { description: "Takes long, and says so", inputSchema: {} },
        async (_args, extra) => {
            for (let i = 1; i <= 3; i++) {
                const progressToken = extra._meta?.progressToken;
                if (progressToken !== undefined)
                    await extra.sendNotification({ method: "notifications/progress",
                        params: { progressToken, progress: i, total: 3 } });
                await new Promise((done) => setTimeout(done, 50));
            }
            return { content: [{ type: "text", text: "done" }] };
        });
    server.registerTool("fails", { description: "Fails", inputSchema: {} },
        async () => { throw new Error("the disk is on fire"); });
    return server;
}

async function body(request) {
    let text = "";
    for await (const piece of request)
        text += piece;
    return text ? JSON.parse(text) : undefined;
}

const [portFile, mode] = process.argv.slice(2);
if (!portFile) {
    await make().connect(new StdioServerTransport());
} else {
    const sessions = new Map();
    const http = createServer(async (request, response) => {
        let transport = sessions.get(request.headers["mcp-session-id"]);
        if (!transport) {
            transport = new StreamableHTTPServerTransport({
                sessionIdGenerator: mode === "stateless" ? undefined : randomUUID,
                enableJsonResponse: mode === "json",
                onsessioninitialized: (id) => sessions.set(id, transport),
                onsessionclosed: (id) => { sessions.delete(id); console.error("closed"); },
            });
            await make().connect(transport);
        }
        await transport.handleRequest(request, response, await body(request));
    });
    http.listen(0, "127.0.0.1", () => {
        writeFileSync(portFile + ".new", String(http.address().port));
        renameSync(portFile + ".new", portFile);
    });
}
