package wellhead.peers;

import com.datastax.driver.core.Cluster;
import java.nio.file.Path;
import java.util.Date;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicLongArray;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.common.typeinfo.TypeHint;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.java.tuple.Tuple7;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.connector.datagen.source.DataGeneratorSource;
import org.apache.flink.connector.datagen.source.GeneratorFunction;
import org.apache.flink.streaming.api.CheckpointingMode;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.connectors.cassandra.CassandraSink;
import org.apache.flink.streaming.connectors.cassandra.ClusterBuilder;

/**
 * Readings of many devices, made in this process, each a row in Cassandra by the documented connector: prepared
 * single inserts, a bounded number of requests on their way (without the bound it dies), all answered at a checkpoint
 * every 10 seconds.
 *
 * <p>Arguments: devices, rows, seconds of warm-up, most requests on their way from each of two subtasks, host and
 * port of Cassandra, table, folder for checkpoints. Prints one JSON line: first what came after the warm-up, then all.
 */
public final class Rows {
  private static final int PARALLELISM = 2;
  private static final long START = 1_767_225_600_000L;
  private static final long HOUR = 3_600_000;

  /** Rows handed to the sink, of each subtask, a cache line or two apart. */
  private static final AtomicLongArray EMITTED = new AtomicLongArray(PARALLELISM * 16);

  private Rows() {}

  /** A row: device, bucket, time, four channels. */
  private static final TypeInformation<Tuple7<String, Long, Date, Double, Double, Double, Double>> ROW =
      TypeInformation.of(new TypeHint<>() {});

  /** Makes rows of one device after the other. */
  static final class Generator
      implements GeneratorFunction<Long, Tuple7<String, Long, Date, Double, Double, Double, Double>> {
    private final String[] names;

    Generator(int devices) {
      names = new String[devices];
      for (int i = 0; i < devices; i++) {
        names[i] = String.format("dev-%06d", i + 1);
      }
    }

    @Override
    public Tuple7<String, Long, Date, Double, Double, Double, Double> map(Long i) {
      int device = (int) (i * 7919 % names.length); // 7919 is prime: no device has a time twice
      long time = START + i / names.length * 1000;
      return Tuple7.of(
          names[device], time / HOUR, new Date(time), (double) i, (double) device, i * 0.5, (double) -i);
    }
  }

  /** Counts what passes. */
  static final class Count<T> extends RichMapFunction<T, T> {
    private transient int slot;
    private transient long n;

    @Override
    public void open(Configuration parameters) {
      slot = getRuntimeContext().getTaskInfo().getIndexOfThisSubtask() * 16;
    }

    @Override
    public T map(T row) {
      EMITTED.lazySet(slot, ++n);
      return row;
    }
  }

  /** Where Cassandra is. */
  static final class At extends ClusterBuilder {
    private final String host;
    private final int port;

    At(String host, int port) {
      this.host = host;
      this.port = port;
    }

    @Override
    protected Cluster buildCluster(Cluster.Builder builder) {
      return builder.addContactPoint(host).withPort(port).withoutJMXReporting().build();
    }
  }

  public static void main(String[] args) throws Exception {
    int devices = Integer.parseInt(args[0]);
    long rows = Long.parseLong(args[1]);
    long warmUp = Long.parseLong(args[2]) * 1000;
    int onTheirWay = Integer.parseInt(args[3]);
    String host = args[4];
    int port = Integer.parseInt(args[5]);
    String table = args[6];

    var config = new Configuration();
    config.set(PipelineOptions.OBJECT_REUSE, true);
    config.set(StateBackendOptions.STATE_BACKEND, "hashmap");
    config.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
    config.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, Path.of(args[7]).toUri().toString());
    var env = StreamExecutionEnvironment.createLocalEnvironment(PARALLELISM, config);
    env.enableCheckpointing(10_000, CheckpointingMode.EXACTLY_ONCE);

    var source = new DataGeneratorSource<>(new Generator(devices), rows, ROW);
    var stream = env.fromSource(source, WatermarkStrategy.noWatermarks(), "readings")
        .map(new Count<Tuple7<String, Long, Date, Double, Double, Double, Double>>())
        .returns(ROW);
    // What CassandraSink.addSink makes of such a stream; that method needs Scala's DataStream to compile against.
    new CassandraSink.CassandraTupleSinkBuilder<>(stream, ROW, ROW.createSerializer(env.getConfig().getSerializerConfig()))
        .setQuery("INSERT INTO " + table + " (device, bucket, ts, v0, v1, v2, v3) VALUES (?, ?, ?, ?, ?, ?, ?)")
        .setClusterBuilder(new At(host, port))
        .setMaxConcurrentRequests(onTheirWay)
        .build();

    Sample begun = Sample.now(EMITTED);
    var job = env.executeAsync();
    var end = job.getJobExecutionResult(); // all rows answered, or the job failed
    Thread.sleep(warmUp);
    Sample from = Sample.now(EMITTED);
    Sample to = from;
    while (!end.isDone() && to.readings() < rows) {
      Thread.sleep(20);
      to = Sample.now(EMITTED);
    }
    end.get();
    if (to.readings() - from.readings() < rows / 4) {
      System.err.println("too few rows: most were written during the warm-up");
      System.exit(1);
    }
    System.out.printf(
        Locale.ROOT,
        "{\"readings\": %d, \"seconds\": %.3f, \"cpuSeconds\": %.3f, \"peakMiB\": %.0f, \"all\": %d, \"allSeconds\": %.3f}%n",
        to.readings() - from.readings(), (to.nanos() - from.nanos()) / 1e9, (to.cpu() - from.cpu()) / 1e9,
        Sample.peakMiB(), to.readings(), (to.nanos() - begun.nanos()) / 1e9);
    System.out.flush();
    Runtime.getRuntime().halt(0);
  }
}
