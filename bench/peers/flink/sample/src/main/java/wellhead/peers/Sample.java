package wellhead.peers;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicLongArray;

/** What was done by a moment: readings, CPU time of this process and time, both in nanoseconds. */
record Sample(long readings, long cpu, long nanos) {
  static Sample now(AtomicLongArray processed) {
    long n = 0;
    for (int i = 0; i < processed.length(); i++) {
      n += processed.get(i);
    }
    var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    return new Sample(n, system.getProcessCpuTime(), System.nanoTime());
  }

  /** The most memory that this process has had (Linux). */
  static double peakMiB() throws IOException {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith("VmHWM:")) {
        return Double.parseDouble(line.replaceAll("[^0-9]", "")) / 1024;
      }
    }
    throw new IOException("no VmHWM in /proc/self/status");
  }
}
