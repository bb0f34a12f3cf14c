// Publishes with MQTT.js: HOST PORT CA VERSION USER PASSWORD TOPIC, and on standard input a line `QOS PAYLOAD` per message. CA may be empty.
// Ends with 0 when every message at QoS 1 and 2 was acknowledged without complaint. NODE_PATH names the folder of the library.
const fs = require('node:fs');
const mqtt = require('mqtt');

const [host, port, ca, version, username, password, topic] = process.argv.slice(2);

async function main() {
  const client = await mqtt.connectAsync({
    protocol: ca ? 'mqtts' : 'mqtt',
    host,
    port: Number(port),
    ca: ca ? [fs.readFileSync(ca)] : undefined,
    protocolVersion: Number(version),
    clientId: 'mqttjs',
    username,
    password,
    connectTimeout: 20_000,
    reconnectPeriod: 0,
  }, false);
  for (const line of fs.readFileSync(0, 'utf8').split('\n').filter(Boolean)) {
    const [qos, ...payload] = line.split(' ');
    await client.publishAsync(topic, payload.join(' '), { qos: Number(qos) });
  }
  await client.endAsync();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
