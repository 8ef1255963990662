// Reads one event stream with one client, one byte at a time, and prints what it delivered: [[id, name, data], ...].
//   node sse_readers.mjs <client> <url>
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource } from "eventsource";
import { createParser } from "eventsource-parser";
import { EventStreamParser, followAnswer } from "./sse.mjs";

const NAMES = ["message", "start", "reasoning", "sources", "failure", "done"];
if (!globalThis.window) Object.assign(globalThis, { window: globalThis, document: new EventTarget() });

/** The network may put bytes together again: this hands each byte over by itself. */
async function byteByByte(input, init) {
  const response = await fetch(input, init);
  const bytes = response.body.pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        for (let at = 0; at < chunk.length; at += 1) controller.enqueue(chunk.slice(at, at + 1));
      },
    }),
  );
  return new Response(bytes, response);
}

async function splitAnywhere(url, deliver, parse) {
  const whole = new Uint8Array(await (await fetch(url)).arrayBuffer());
  const results = new Set();
  for (let at = 0; at <= whole.length; at += 1) {
    const events = [];
    parse([whole.subarray(0, at), whole.subarray(at)], (...event) => events.push(event));
    results.add(JSON.stringify(events));
  }
  if (results.size !== 1) throw new Error(`${results.size} different results`);
  for (const event of JSON.parse([...results][0])) deliver(...event);
}

const readers = {
  async page(url, deliver) {
    const connect = (lastEventId, signal) => byteByByte(url, { signal });
    for await (const { id, event, data } of followAnswer({ connect })) deliver(id, event, data);
  },

  async "eventsource-parser"(url, deliver) {
    const parser = createParser({ onEvent: ({ id, event, data }) => deliver(id, event ?? "message", data) });
    const decoder = new TextDecoder();
    for await (const byte of (await byteByByte(url)).body) parser.feed(decoder.decode(byte, { stream: true }));
  },

  eventsource(url, deliver) {
    return new Promise((resolve, reject) => {
      const source = new EventSource(url, { fetch: byteByByte });
      for (const name of NAMES)
        source.addEventListener(name, ({ lastEventId, type, data }) => {
          deliver(lastEventId, type, data);
          if (type === "done") resolve(source.close());
        });
      source.onerror = (event) => reject(new Error(event.message));
    });
  },

  "fetch-event-source"(url, deliver) {
    return fetchEventSource(url, {
      fetch: byteByByte,
      onmessage: ({ id, event, data }) => deliver(id, event || "message", data),
      onerror(error) {
        throw error;
      },
    });
  },

  // the whole stream at once, split in two after each byte: all results must be the same
  "page, split anywhere": (url, deliver) =>
    splitAnywhere(url, deliver, (halves, found) => {
      const parser = new EventStreamParser();
      for (const half of halves) for (const { id, event, data } of parser.push(half)) found(id, event, data);
    }),

  "eventsource-parser, split anywhere": (url, deliver) =>
    splitAnywhere(url, deliver, (halves, found) => {
      const parser = createParser({ onEvent: ({ id, event, data }) => found(id, event ?? "message", data) });
      const decoder = new TextDecoder();
      for (const half of halves) parser.feed(decoder.decode(half, { stream: true }));
    }),
};

const [client, url] = process.argv.slice(2);
const events = [];
await readers[client](url, (...event) => events.push(event));
console.log(JSON.stringify(events));
