/** Ticks once a second. A hidden page gets one timer a minute; a worker keeps its own. */
setInterval(() => postMessage(null), 1000);
