// Makes the replica set of the mongod beside it, waits until it takes writes, and marks that with a file for the
// health check. Run by mongosh at every start of the container; says in its log what it waits for.
const { MONGO_INITDB_ROOT_USERNAME: user, MONGO_INITDB_ROOT_PASSWORD: password, REPLICA_SET_READY: mark } = process.env;
const credentials = `${encodeURIComponent(user)}:${encodeURIComponent(password)}`;
const server = `mongodb://${credentials}@127.0.0.1:27017/admin?directConnection=true&serverSelectionTimeoutMS=2000`;
// The name by which the services reach it too.
const members = [{ _id: 0, host: "mongo:27017" }];

// step: one try to get further; what is missing, or nothing once it takes writes.
function step() {
  const admin = connect(server);
  const hello = admin.hello();
  if (hello.setName && hello.isWritablePrimary) return "";
  if (!hello.isreplicaset) return hello.setName ? "no primary yet" : "the user is being made";
  admin.adminCommand({ replSetInitiate: { _id: "rs0", members } });
  return "initiated";
}

// explain: the one error that does not go away by itself, in words that say what to do.
function explain(error) {
  if (error.codeName !== "AuthenticationFailed") return error.message;
  return "MONGO_PASSWORD is not the password that this volume was made with: set it to that one";
}

const begin = Date.now();
let said = begin;
for (;;) {
  let missing;
  try {
    missing = step();
  } catch (error) {
    missing = explain(error);
  }
  if (!missing) break;
  // The first seconds of a new volume know neither the user nor the replica set: that is no news.
  if (Date.now() - said > 10_000) {
    said = Date.now();
    print(`replica set rs0: not ready after ${Math.round((said - begin) / 1000)} s: ${missing}`);
  }
  sleep(500);
}
require("fs").writeFileSync(mark, "");
print("replica set rs0: ready");
