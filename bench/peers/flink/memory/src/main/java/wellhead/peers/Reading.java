package wellhead.peers;

import java.io.IOException;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** One reading of a device: four channels. Time is in Unix milliseconds. */
public final class Reading {
  public long device;
  public long time;
  public double a;
  public double b;
  public double c;
  public double d;

  public long device() {
    return device;
  }

  void set(Reading from) {
    device = from.device;
    time = from.time;
    a = from.a;
    b = from.b;
    c = from.c;
    d = from.d;
  }

  /** Writes the six fields one after the other. */
  public static final class Serializer extends FixedSerializer<Reading> {
    public Serializer() {
      super(Snapshot.class);
    }

    @Override
    public Reading createInstance() {
      return new Reading();
    }

    @Override
    public Reading copy(Reading from, Reading reuse) {
      reuse.set(from);
      return reuse;
    }

    @Override
    public int getLength() {
      return 48;
    }

    @Override
    public void serialize(Reading r, DataOutputView out) throws IOException {
      out.writeLong(r.device);
      out.writeLong(r.time);
      out.writeDouble(r.a);
      out.writeDouble(r.b);
      out.writeDouble(r.c);
      out.writeDouble(r.d);
    }

    @Override
    public Reading deserialize(Reading reuse, DataInputView in) throws IOException {
      reuse.device = in.readLong();
      reuse.time = in.readLong();
      reuse.a = in.readDouble();
      reuse.b = in.readDouble();
      reuse.c = in.readDouble();
      reuse.d = in.readDouble();
      return reuse;
    }

    /** Says in a checkpoint how its readings were written. */
    public static final class Snapshot extends SimpleTypeSerializerSnapshot<Reading> {
      public Snapshot() {
        super(Serializer::new);
      }
    }
  }
}
