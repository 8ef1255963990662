// The same in Node.js, through AWS's own streaming client.
const http = require('http');

const [host, port] = process.env.BENCH_AI.split(':');
const agent = new http.Agent({ keepAlive: true });

exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 200, headers: { 'content-type': 'text/event-stream' } });
  await new Promise((resolve, reject) => {
    const options = { host, port, agent, method: 'POST', path: '/v1/chat/completions', headers: { 'content-length': Buffer.byteLength(event.body) } };
    const request = http.request(options, (response) => {
      response.on('data', (data) => stream.write(data));
      response.on('end', resolve);
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end(event.body);
  });
  stream.end();
});
