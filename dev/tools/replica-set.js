// Makes a fresh mongod a one-node replica set with one user, or tells an old one its new port. Then writes the
// member's address into MONGO_MEMBER_FILE. Started beside mongod by run/mongodb; says in mongod's log what it does.
const { writeFileSync } = require("fs");
const { setTimeout: pause } = require("timers/promises");
const { MongoClient } = require("mongodb");

const { MONGO_PORT, MONGO_PASSWORD, MONGO_MEMBER_FILE } = process.env;
const member = `127.0.0.1:${MONGO_PORT}`;
const user = "switchboard";

async function command(credentials, document) {
  const client = new MongoClient(`mongodb://${credentials}${member}/admin?directConnection=true`, {
    serverSelectionTimeoutMS: 1000,
  });
  try {
    return await client.db("admin").command(document);
  } finally {
    await client.close();
  }
}

// Before there is a user, mongod lets a client of this machine set it up.
const anyone = (document) => command("", document);
const owner = (document) => command(`${user}:${MONGO_PASSWORD}@`, document);

async function setUp() {
  const hello = await anyone({ hello: 1 });
  if (!hello.setName && !hello.isreplicaset) throw new Error("not started as a replica set");
  if (hello.isreplicaset) {
    const initiate = { replSetInitiate: { _id: "rs0", members: [{ _id: 0, host: member }] } };
    await anyone(initiate).catch(async (error) => {
      if (error.codeName !== "Unauthorized" && error.codeName !== "AlreadyInitialized") throw error;
      const { config } = await owner({ replSetGetConfig: 1 });
      config.members[0].host = member;
      config.version += 1;
      await owner({ replSetReconfig: config, force: true });
    });
  }
  if (!(await anyone({ hello: 1 })).isWritablePrimary) throw new Error("no primary yet");
  await owner({ connectionStatus: 1 }).catch(() => anyone({ createUser: user, pwd: MONGO_PASSWORD, roles: ["root"] }));
}

(async () => {
  for (const deadline = Date.now() + 60_000; ; await pause(200)) {
    try {
      await setUp();
      writeFileSync(MONGO_MEMBER_FILE, member);
      return console.log(`replica set rs0 is ready at ${member}`);
    } catch (error) {
      if (Date.now() > deadline) {
        console.log(`replica set rs0 could not be set up: ${error}`);
        process.exit(1);
      }
    }
  }
})();
