"""Publishes with paho: HOST PORT CA VERSION USER PASSWORD TOPIC, and on standard input a line `QOS PAYLOAD` per message. CA may be empty.
Ends with 0 when every message at QoS 1 and 2 was acknowledged without complaint."""

import sys

from paho.mqtt import client as mqtt

host, port, ca, version, user, password, topic = sys.argv[1:]
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="paho", protocol=mqtt.MQTTv5 if version == "5" else mqtt.MQTTv311)
client.username_pw_set(user, password)
if ca:
    client.tls_set(ca_certs=ca)
refused = []
client.on_connect = lambda client, userdata, flags, reason, properties: refused.append(reason) if reason.is_failure else None
client.on_publish = lambda client, userdata, mid, reason, properties: refused.append(reason) if reason.is_failure else None
client.connect(host, int(port))
client.loop_start()
for line in sys.stdin:
    qos, payload = line.rstrip("\n").split(" ", 1)
    message = client.publish(topic, payload, qos=int(qos))
    message.wait_for_publish(20)
    if refused or not message.is_published():
        sys.exit(f"QoS {qos}: not acknowledged: {refused}")
client.disconnect()
client.loop_stop()
