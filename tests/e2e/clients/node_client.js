// Node: fetch, https and http2; the three calls each to BASE (TLS), and fetch to PLAIN too. Names resolve to ADDRESS.
const [address, base, plain] = process.argv.slice(-3);
const lookup = (_, options, done) => {
  if (typeof options === "function") [options, done] = [{}, options];
  return options.all ? done(null, [{ address, family: 4 }]) : done(null, address, 4);
};
require("dns").lookup = lookup;
const calls = [["GET", "/v1/health"], ["GET", "/v1/users/7"], ["DELETE", "/v1/users/7"]];

const byFetch = (base) => async (method, path) => {
  const answer = await fetch(base + path, { method });
  return [answer.status, await answer.text()];
};

const byHttps = (method, path) => new Promise((done, failed) => {
  const request = require("https").request(base + path, { method, lookup }, async (answer) => {
    let body = "";
    for await (const data of answer) body += data;
    done([answer.statusCode, body]);
  });
  request.on("error", failed).end();
});

const session = require("http2").connect(base, { lookup });
const byHttp2 = (method, path) => new Promise((done, failed) => {
  const request = session.request({ ":method": method, ":path": path });
  let [status, body] = [0, ""];
  request.setEncoding("utf8");
  request.on("response", (head) => (status = head[":status"])).on("data", (data) => (body += data));
  request.on("end", () => done([status, body])).on("error", failed).end();
});

(async () => {
  for (const [name, call] of [["fetch", byFetch(base)], ["fetch-plain", byFetch(plain)], ["https", byHttps], ["http2", byHttp2]]) {
    for (const [method, path] of calls) console.log(name, ...(await call(method, path)).map((part) => `${part}`.trim()));
  }
  session.close();
  process.exit(0);
})();
