'use strict';

// Reads a release line with the client that the command line of the warehouse uses: node line.js URI PACKAGE [VERSION]
// Prints one line: {"error": <message or null>, "body": <the reply>, "requests": <how often it asked>}

const channel = require('diagnostics_channel');
const Warehouse = require('warehouse.ai-api-client');

let requests = 0;
channel.subscribe('http.client.request.start', () => { requests++; });

const [uri, pkg, version] = process.argv.slice(2);
new Warehouse(uri).releaseLine.get({ pkg, version }, (error, body) => {
  console.log(JSON.stringify({ error: error ? error.message : null, body: body || null, requests }));
});
