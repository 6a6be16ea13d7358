'use strict';

// Works on a keyspace with the models and the release-line library that the Node software uses:
//   node keyspace.js HOSTS KEYSPACE < [["ensure"], ["line", "create", {…}], ["dependent", "add", {…}], ["Package", "create", {…}], …]
// "line" and "dependent" are @wrhs/release-line's, everything else is a model of warehouse-models.
// Prints one line: a list with what each step came to, undefined as null.

const fs = require('fs');
const Datastar = require('datastar');
const models = require('warehouse-models');
const ReleaseLine = require('@wrhs/release-line');

const [hosts, keyspace] = process.argv.slice(2);
const steps = JSON.parse(fs.readFileSync(0, 'utf8'));
const star = new Datastar({ config: { user: '', password: '', keyspace, hosts: hosts.split(',') } });
const called = (call) => new Promise((resolve, reject) => call((error, result) => (error ? reject(error) : resolve(result))));

async function main() {
  await called((done) => star.connect(done));
  const all = models(star);
  const line = new ReleaseLine({ models: all });
  const results = [];
  for (const [what, verb, argument] of steps) {
    let result;
    if (what === 'ensure') await called((done) => all.ensure(done));
    else if (what === 'line') result = await line[verb](argument);
    else if (what === 'dependent') result = await line.dependent[verb](argument);
    else result = await called((done) => all[what][verb](argument, done));
    const kept = verb === 'get' || verb === 'list' || verb === 'findOne' || verb === 'findAll';
    results.push(kept && result !== undefined ? JSON.parse(JSON.stringify(result)) : null);
  }
  console.log(JSON.stringify(results));
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
