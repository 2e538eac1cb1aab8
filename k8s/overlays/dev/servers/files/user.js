// Run by the image at the first start: the user of the logger, who may do everything with its database and nothing else.
const { readFileSync } = require('fs')
db.getSiblingDB('logs').createUser({
  user: 'switchboard',
  pwd: readFileSync('/run/secrets/mongodb/password', 'utf8').trim(),
  roles: [{ role: 'readWrite', db: 'logs' }, { role: 'dbAdmin', db: 'logs' }]
})
