package wellhead.peers;

import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicLongArray;
import org.apache.flink.api.common.JobStatus;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.configuration.TaskManagerOptions;
import org.apache.flink.connector.datagen.source.DataGeneratorSource;
import org.apache.flink.connector.datagen.source.GeneratorFunction;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.util.Collector;

/**
 * Readings of many devices in random order, each into its device's window and minute aggregates, which Flink keeps
 * in its heap and writes to local disk every 10 seconds, exactly once. The source makes readings in this process and
 * the sink throws away: nothing is durable but the checkpoints.
 *
 * <p>Arguments: devices, seconds of warm-up, seconds that count, folder for checkpoints. Prints one JSON line.
 */
public final class Memory {
  private static final int PARALLELISM = 2;
  private static final long START = 1_767_225_600_000L;

  /** Readings processed, of each subtask, a cache line or two apart. */
  private static final AtomicLongArray PROCESSED = new AtomicLongArray(PARALLELISM * 16);

  private Memory() {}

  /** Makes reading after reading: devices as a hash scatters them, each once a second on average. */
  static final class Generator implements GeneratorFunction<Long, Reading> {
    private final long devices;
    private long made;

    Generator(long devices) {
      this.devices = devices;
    }

    @Override
    public Reading map(Long i) {
      Reading r = new Reading();
      r.device = Long.remainderUnsigned(mix(i), devices);
      r.time = START + made * PARALLELISM / devices * 1000;
      made++;
      r.a = i;
      r.b = r.device;
      r.c = i * 0.5;
      r.d = -i;
      return r;
    }

    /** Murmur3's last step. */
    private static long mix(long x) {
      x ^= x >>> 33;
      x *= 0xff51afd7ed558ccdL;
      x ^= x >>> 33;
      x *= 0xc4ceb9fe1a85ec53L;
      return x ^ x >>> 33;
    }
  }

  /** Keeps a device's state, and tells the device whenever a minute of it is whole. */
  static final class Keep extends KeyedProcessFunction<Long, Reading, Long> {
    private transient ValueState<Device> state;
    private transient long processed;
    private transient int slot;

    @Override
    public void open(OpenContext context) {
      state = getRuntimeContext()
          .getState(new ValueStateDescriptor<>("device", new FixedType<>(Device.class, new Device.Serializer())));
      slot = getRuntimeContext().getTaskInfo().getIndexOfThisSubtask() * 16;
    }

    @Override
    public void processElement(Reading r, Context context, Collector<Long> out) throws IOException {
      Device d = state.value();
      if (d == null) {
        d = new Device();
      }
      if (d.add(r)) {
        out.collect(r.device);
      }
      state.update(d);
      if ((++processed & 1023) == 0) {
        PROCESSED.lazySet(slot, processed);
      }
    }
  }

  public static void main(String[] args) throws Exception {
    long devices = Long.parseLong(args[0]);
    var warmUp = Duration.ofSeconds(Long.parseLong(args[1]));
    var counted = Duration.ofSeconds(Long.parseLong(args[2]));

    var config = new Configuration();
    config.set(PipelineOptions.OBJECT_REUSE, true);
    config.set(StateBackendOptions.STATE_BACKEND, "hashmap");
    config.set(TaskManagerOptions.NETWORK_MEMORY_MIN, MemorySize.ofMebiBytes(256));
    config.set(TaskManagerOptions.NETWORK_MEMORY_MAX, MemorySize.ofMebiBytes(256));
    config.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
    config.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, Path.of(args[3]).toUri().toString());
    var env = StreamExecutionEnvironment.createLocalEnvironment(PARALLELISM, config);
    env.enableCheckpointing(10_000, CheckpointingMode.EXACTLY_ONCE);

    var source = new DataGeneratorSource<>(
        new Generator(devices), Long.MAX_VALUE, new FixedType<>(Reading.class, new Reading.Serializer()));
    env.fromSource(source, WatermarkStrategy.noWatermarks(), "readings")
        .keyBy(Reading::device, Types.LONG)
        .process(new Keep(), Types.LONG)
        .sinkTo(new DiscardingSink<>());
    var job = env.executeAsync();

    Thread.sleep(warmUp.toMillis());
    Sample from = Sample.now(PROCESSED);
    Thread.sleep(counted.toMillis());
    Sample to = Sample.now(PROCESSED);
    if (job.getJobStatus().get() != JobStatus.RUNNING) {
      System.err.println("the job does not run any more: " + job.getJobStatus().get());
      System.exit(1);
    }
    System.out.printf(
        Locale.ROOT, "{\"readings\": %d, \"seconds\": %.3f, \"cpuSeconds\": %.3f, \"peakMiB\": %.0f}%n",
        to.readings() - from.readings(), (to.nanos() - from.nanos()) / 1e9, (to.cpu() - from.cpu()) / 1e9, Sample.peakMiB());
    System.out.flush();
    Runtime.getRuntime().halt(0); // nothing of it is kept
  }
}
