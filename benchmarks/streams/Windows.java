import com.google.protobuf.CodedInputStream;
import com.google.protobuf.WireFormat;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;
import org.apache.kafka.streams.processor.TimestampExtractor;
import org.apache.kafka.streams.state.*;

/**
 * Windows BOOTSTRAP INPUTS MARKS WINDOWS ALERTS memory|rocksdb STATE
 *
 * Kafka Streams beside the processor: the same records of vigil.inputs, one-minute tumbling windows with ten minutes of grace, of which
 * only the final result is written, and an alert for each value above its metric's limit. A record's key is the patient, so a window holds
 * all metrics of a patient and no repartition is needed; what is written is one record of each metric.
 *
 * memory: in-memory store, no changelog (a crash forgets). rocksdb: RocksDB and changelog, at least once.
 */
public class Windows {
  /** By metric's number; 0 is none. */
  static final double[] LIMIT = new double[64];

  static {
    java.util.Arrays.fill(LIMIT, Double.POSITIVE_INFINITY);
    String limits = System.getenv("LIMITS");
    if (limits != null)
      for (String one : limits.split(",")) LIMIT[Integer.parseInt(one.split("=")[0])] = Double.parseDouble(one.split("=")[1]);
  }

  record Reading(int metric, double value, long atMicros, byte[] raw) {
    /** Of an Input, what a window needs; null: no reading. */
    static Reading of(byte[] bytes) {
      try {
        CodedInputStream in = CodedInputStream.newInstance(bytes);
        int tag = in.readTag();
        if (WireFormat.getTagFieldNumber(tag) != 1) return null;
        in.readRawVarint32();
        int metric = 0;
        double value = 0;
        long at = 0;
        while ((tag = in.readTag()) != 0)
          switch (WireFormat.getTagFieldNumber(tag)) {
            case 4 -> metric = in.readUInt32();
            case 5 -> value = in.readDouble();
            case 6 -> at = in.readInt64();
            default -> in.skipField(tag);
          }
        return new Reading(metric, value, at, bytes);
      } catch (IOException broken) {
        throw new IllegalArgumentException(broken);
      }
    }
  }

  /** Count, sum, minimum and maximum of each metric. */
  static class Stats {
    static final int EACH = 33;
    final List<Integer> metrics = new ArrayList<>(6);
    final List<double[]> values = new ArrayList<>(6);

    Stats add(Reading reading) {
      int place = metrics.indexOf(reading.metric);
      if (place < 0) {
        place = metrics.size();
        metrics.add(reading.metric);
        values.add(new double[] {0, 0, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY});
      }
      double[] of = values.get(place);
      of[0]++;
      of[1] += reading.value;
      of[2] = Math.min(of[2], reading.value);
      of[3] = Math.max(of[3], reading.value);
      return this;
    }

    byte[] bytes() {
      ByteBuffer out = ByteBuffer.allocate(EACH * metrics.size());
      for (int place = 0; place < metrics.size(); place++) {
        out.put((byte) (int) metrics.get(place));
        for (double value : values.get(place)) out.putDouble(value);
      }
      return out.array();
    }

    static Stats of(byte[] bytes) {
      Stats stats = new Stats();
      for (ByteBuffer in = ByteBuffer.wrap(bytes); in.hasRemaining(); ) {
        stats.metrics.add((int) in.get());
        stats.values.add(new double[] {in.getDouble(), in.getDouble(), in.getDouble(), in.getDouble()});
      }
      return stats;
    }
  }

  /** When it was measured. */
  public static class Measured implements TimestampExtractor {
    @Override
    public long extract(ConsumerRecord<Object, Object> record, long partitionTime) {
      return record.value() instanceof Reading reading ? reading.atMicros / 1000 : Math.max(partitionTime, 0);
    }
  }

  public static void main(String[] a) {
    boolean memory = a[5].equals("memory");
    Properties p = new Properties();
    p.put("application.id", a[3]); // one name a run: a second run of the same name would go on where the first stopped
    p.put("bootstrap.servers", a[0]);
    p.put("state.dir", a[6]);
    p.put("num.stream.threads", "2");
    p.put("consumer.auto.offset.reset", "earliest");
    p.put("consumer.max.poll.records", "5000");
    if (System.getenv("LINGER_MS") != null) p.put("producer.linger.ms", System.getenv("LINGER_MS"));
    p.put("producer.batch.size", "131072");
    p.put("producer.compression.type", "zstd"); // as Vigil's
    p.put("ensure.explicit.internal.resource.naming", "false");

    Serde<Reading> reading = Serdes.serdeFrom((topic, r) -> r == null ? null : r.raw, (topic, b) -> b == null ? null : Reading.of(b));
    Serde<Stats> stats = Serdes.serdeFrom((topic, s) -> s == null ? null : s.bytes(), (topic, b) -> b == null ? null : Stats.of(b));
    Duration size = Duration.ofMinutes(1), grace = Duration.ofMinutes(10);
    // longer than size and grace: the marks that end a run are an hour ahead, and a store forgets by its retention, emitted or not
    Duration retention = Duration.ofHours(3);
    Materialized<Bytes, Stats, WindowStore<Bytes, byte[]>> store = memory
        ? Materialized.<Bytes, Stats>as(Stores.inMemoryWindowStore("stats", retention, size, false)).withLoggingDisabled()
        : Materialized.<Bytes, Stats, WindowStore<Bytes, byte[]>>as("stats").withRetention(retention);

    StreamsBuilder builder = new StreamsBuilder();
    KStream<Bytes, Reading> readings = builder
        .stream(List.of(a[1], a[2]), Consumed.with(Serdes.Bytes(), reading).withTimestampExtractor(new Measured()))
        .filter((patient, one) -> one != null);
    readings.filter((patient, one) -> one.value > LIMIT[one.metric]).to(a[4], Produced.with(Serdes.Bytes(), reading));
    readings.groupByKey(Grouped.with(Serdes.Bytes(), reading))
        .windowedBy(TimeWindows.ofSizeAndGrace(size, grace))
        .emitStrategy(EmitStrategy.onWindowClose())
        .aggregate(Stats::new, (patient, one, s) -> s.add(one), store.withKeySerde(Serdes.Bytes()).withValueSerde(stats))
        .toStream()
        .flatMap((window, s) -> {
          byte[] all = s.bytes(), patient = window.key().get();
          List<KeyValue<Bytes, byte[]>> each = new ArrayList<>(6);
          for (int from = 0; from < all.length; from += Stats.EACH) {
            byte[] key = ByteBuffer.allocate(patient.length + 9).put(patient).put(all[from]).putLong(window.window().start()).array();
            byte[] value = new byte[Stats.EACH - 1];
            System.arraycopy(all, from + 1, value, 0, value.length);
            each.add(KeyValue.pair(Bytes.wrap(key), value));
          }
          return each;
        })
        .to(a[3], Produced.with(Serdes.Bytes(), Serdes.ByteArray(), (topic, key, value, partitions) -> java.util.Optional.empty()));

    KafkaStreams streams = new KafkaStreams(builder.build(), p);
    streams.setStateListener((to, from) -> { if (to == KafkaStreams.State.RUNNING) System.out.println("RUNNING"); });
    streams.setUncaughtExceptionHandler(error -> {
      error.printStackTrace();
      return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
    });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
    streams.start();
  }
}
