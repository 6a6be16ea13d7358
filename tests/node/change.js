'use strict';

// Posts a change with the client that the build service uses: node change.js URI ENV < {"data": …, "promote": …}
// Prints one line: {"error": <message or null>, "body": <the reply>, "requests": <how often it asked>}

const channel = require('diagnostics_channel');
const fs = require('fs');
const Feedsme = require('feedsme-api-client');

let requests = 0;
channel.subscribe('http.client.request.start', () => { requests++; });

const [uri, env] = process.argv.slice(2);
const data = JSON.parse(fs.readFileSync(0, 'utf8'));
new Feedsme({ uri }).change(env, { data }, (error, body) => {
  console.log(JSON.stringify({ error: error ? error.message : null, body: body || null, requests }));
});
