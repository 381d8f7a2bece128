// modern.mjs - a server made with version 2 of the official SDK, which speaks 2026-07-28.
//
// usage: node modern.mjs ERA            over standard input and output
//        node modern.mjs ERA PORTFILE   over streamable HTTP on 127.0.0.1
// ERA: "only" refuses the handshake of older versions, "both" does not.
import { renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { createMcpHandler, McpServer } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { z } from "zod";

function make() {
    const server = new McpServer({ name: "sdk-server", version: "3.0" }, { capabilities: { tools: {} } });
    const sky = { temperature: 18, condition: "sunny" };
    server.registerTool("get_weather", {
        description: "Get the weather in a city",
        inputSchema: z.object({ city: z.string().describe("The city").meta({ "x-mcp-header": "City" }) }),
    }, async () => ({ content: [{ type: "text", text: JSON.stringify(sky) }] }));
    server.registerTool("fails", { description: "Fails", inputSchema: z.object({}) },
        async () => { throw new Error("the disk is on fire"); });
    return server;
}

const [era, portFile] = process.argv.slice(2);
const legacy = era === "only" ? "reject" : undefined;
if (!portFile) {
    serveStdio(make, legacy ? { legacy } : {});
} else {
    const handler = createMcpHandler(make, legacy ? { legacy } : {});
    const http = createServer(async (request, response) => {
        const body = ["GET", "HEAD"].includes(request.method) ? undefined : Readable.toWeb(request);
        console.error(request.method, request.headers["mcp-method"], request.headers["mcp-param-city"]);
        const answer = await handler.fetch(new Request(`http://127.0.0.1${request.url}`,
            { method: request.method, headers: request.headers, body, duplex: "half" }));
        response.writeHead(answer.status, Object.fromEntries(answer.headers));
        if (answer.body)
            Readable.fromWeb(answer.body).pipe(response);
        else
            response.end();
    });
    http.listen(0, "127.0.0.1", () => {
        writeFileSync(portFile + ".new", String(http.address().port));
        renameSync(portFile + ".new", portFile);
    });
}
