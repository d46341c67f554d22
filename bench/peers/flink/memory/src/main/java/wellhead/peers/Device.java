package wellhead.peers;

import java.io.IOException;
import java.util.Arrays;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** A device's state: its newest 60 readings of four channels and the aggregates of the running minute. 2.5 KB. */
public final class Device {
  static final int WINDOW = 60;
  static final int CHANNELS = 4;
  static final long MINUTE = 60_000;

  int next; // place of the next reading in the ring
  int held;
  final long[] times = new long[WINDOW];
  final double[] values = new double[WINDOW * CHANNELS];
  long minute = Long.MIN_VALUE;
  final long[] counts = new long[CHANNELS];
  final double[] mins = new double[CHANNELS];
  final double[] maxs = new double[CHANNELS];
  final double[] sums = new double[CHANNELS];

  /** Takes a reading in, and tells whether it began a new minute, so that the last one is whole. */
  boolean add(Reading r) {
    times[next] = r.time;
    int at = next * CHANNELS;
    values[at] = r.a;
    values[at + 1] = r.b;
    values[at + 2] = r.c;
    values[at + 3] = r.d;
    next = next + 1 == WINDOW ? 0 : next + 1;
    held = Math.min(held + 1, WINDOW);
    long now = r.time / MINUTE;
    boolean turned = now != minute;
    if (turned) {
      minute = now;
      Arrays.fill(counts, 0);
      Arrays.fill(sums, 0);
      Arrays.fill(mins, Double.POSITIVE_INFINITY);
      Arrays.fill(maxs, Double.NEGATIVE_INFINITY);
    }
    for (int i = 0; i < CHANNELS; i++) {
      double v = values[at + i];
      counts[i]++;
      sums[i] += v;
      mins[i] = Math.min(mins[i], v);
      maxs[i] = Math.max(maxs[i], v);
    }
    return turned && held > 1;
  }

  /** Writes all of a device's state. */
  public static final class Serializer extends FixedSerializer<Device> {
    public Serializer() {
      super(Snapshot.class);
    }

    @Override
    public Device createInstance() {
      return new Device();
    }

    @Override
    public Device copy(Device from, Device reuse) {
      reuse.next = from.next;
      reuse.held = from.held;
      reuse.minute = from.minute;
      System.arraycopy(from.times, 0, reuse.times, 0, WINDOW);
      System.arraycopy(from.values, 0, reuse.values, 0, WINDOW * CHANNELS);
      System.arraycopy(from.counts, 0, reuse.counts, 0, CHANNELS);
      System.arraycopy(from.mins, 0, reuse.mins, 0, CHANNELS);
      System.arraycopy(from.maxs, 0, reuse.maxs, 0, CHANNELS);
      System.arraycopy(from.sums, 0, reuse.sums, 0, CHANNELS);
      return reuse;
    }

    @Override
    public int getLength() {
      return 4 + 4 + 8 + 8 * (WINDOW + WINDOW * CHANNELS + 4 * CHANNELS);
    }

    @Override
    public void serialize(Device d, DataOutputView out) throws IOException {
      out.writeInt(d.next);
      out.writeInt(d.held);
      out.writeLong(d.minute);
      write(d.times, out);
      write(d.values, out);
      write(d.counts, out);
      write(d.mins, out);
      write(d.maxs, out);
      write(d.sums, out);
    }

    @Override
    public Device deserialize(Device d, DataInputView in) throws IOException {
      d.next = in.readInt();
      d.held = in.readInt();
      d.minute = in.readLong();
      read(d.times, in);
      read(d.values, in);
      read(d.counts, in);
      read(d.mins, in);
      read(d.maxs, in);
      read(d.sums, in);
      return d;
    }

    private static void write(long[] all, DataOutputView out) throws IOException {
      for (long v : all) {
        out.writeLong(v);
      }
    }

    private static void write(double[] all, DataOutputView out) throws IOException {
      for (double v : all) {
        out.writeDouble(v);
      }
    }

    private static void read(long[] all, DataInputView in) throws IOException {
      for (int i = 0; i < all.length; i++) {
        all[i] = in.readLong();
      }
    }

    private static void read(double[] all, DataInputView in) throws IOException {
      for (int i = 0; i < all.length; i++) {
        all[i] = in.readDouble();
      }
    }

    /** Says in a checkpoint how its devices were written. */
    public static final class Snapshot extends SimpleTypeSerializerSnapshot<Device> {
      public Snapshot() {
        super(Serializer::new);
      }
    }
  }
}
