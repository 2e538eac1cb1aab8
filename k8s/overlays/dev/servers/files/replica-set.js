// Makes the replica set of the mongod beside it, waits until it takes writes, and marks that with a file for the startup
// probe. Says what it waits for.
const fs = require('fs')
const password = fs.readFileSync('/run/secrets/mongodb/root-password', 'utf8').trim()
const server = `mongodb://root:${encodeURIComponent(password)}@127.0.0.1:27017/admin?directConnection=true&serverSelectionTimeoutMS=2000`
// The name by which the logger reaches it too.
const members = [{ _id: 0, host: 'mongodb-0.mongodb:27017' }]

// One try to get further: what is missing, or nothing once it takes writes.
function step () {
  const admin = connect(server)
  const hello = admin.hello()
  if (hello.setName) return hello.isWritablePrimary ? '' : 'no primary yet'
  if (!hello.isreplicaset) return 'the users are being made'
  admin.adminCommand({ replSetInitiate: { _id: 'rs0', members } })
  return 'initiated'
}

const begin = Date.now()
let said = begin
for (;;) {
  let missing
  try {
    missing = step()
  } catch (error) {
    missing = error.codeName === 'AuthenticationFailed' ? 'the volume was made with another root-password' : error.message
  }
  if (!missing) break
  // The first seconds of a new volume know neither the users nor the replica set: that is no news.
  if (Date.now() - said > 10_000) {
    said = Date.now()
    print(`replica set rs0: not ready after ${Math.round((said - begin) / 1000)} s: ${missing}`)
  }
  sleep(500)
}
fs.writeFileSync('/tmp/replica-set-ready', '')
print('replica set rs0: ready')
