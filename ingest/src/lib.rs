//! MQTT in, journal out: the gateway that devices connect to.
