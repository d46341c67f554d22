package testenv

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// installCassandra is what to do when Cassandra is missing.
const installCassandra = "scripts/fetch-cassandra (needs Java 17 and Maven)"

//go:embed cassandra.yaml.tmpl
var cassandraYAML string

//go:embed logback.xml
var logbackXML []byte

// CassandraOptions describes a Cassandra server. The zero value is a single server for tests.
type CassandraOptions struct {
	On            *Machine // nil = this machine
	Host          string   // loopback address to listen on, or On's; "" = 127.0.0.1, or On's
	Port          int      // for clients; 0 = a free one
	HeapMB        int      // 0 = 1024
	CommitlogSync string   // periodic (default; a kill -9 loses up to 0.1 s of acknowledged writes), group or batch (nothing; slower one by one)
	Latest        bool     // what cassandra_latest.yaml recommends for version 5: memtables are tries outside the heap, tables BTI
	Extra         string   // more lines for cassandra.yaml

	// For several servers in one cluster.
	Cluster     string        // cluster name; "" = wellhead-test
	Seeds       string        // host:storage port of the first server; "" = itself
	StoragePort int           // 0 = a free one
	Tokens      int           // 0 = 1, which starts fastest
	DataCenter  string        // "" = datacenter1, which all servers must have then
	Joined      bool          // it has no data to fetch when it first starts: the cluster is new
	RingDelay   time.Duration // how long a joining server listens first; 0 = 1 ms, with several servers take 2 s
}

// CassandraServer is a running Cassandra, or one that others share (see the package comment).
type CassandraServer struct {
	server
	Addr        string // host:port for clients
	StorageAddr string // host:port for other servers, "" when not ours
	Log         string // path of its log, "" when not ours

	nodetool func(ctx context.Context, args []string) ([]byte, error)
	replace  func(seeds string) error
}

// StartCassandra starts a server with its data and logs in dir, which keeps both after Stop, and waits
// until it accepts clients (about 12 s) or ctx ends. ErrMissing when it is not installed.
func StartCassandra(ctx context.Context, dir string, o CassandraOptions) (*CassandraServer, error) {
	classpath, java, err := findCassandra()
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	config, err := cassandraConfig(dir, o)
	if err != nil {
		return nil, err
	}
	if err := config.write(dir); err != nil {
		return nil, err
	}
	replacing := false
	s := &CassandraServer{
		Addr:        net.JoinHostPort(config.Host, strconv.Itoa(config.Port)),
		StorageAddr: net.JoinHostPort(config.Host, strconv.Itoa(config.StoragePort)),
		Log:         filepath.Join(dir, "cassandra.log"),
	}
	s.nodetool = func(ctx context.Context, args []string) ([]byte, error) {
		flags := append(javaModules(), "-cp", classpath, "org.apache.cassandra.tools.NodeTool", "-p", strconv.Itoa(config.JMXPort))
		name, args := o.On.Command(java, append(flags, args...)...)
		return exec.CommandContext(ctx, name, args...).CombinedOutput()
	}
	s.replace = func(seeds string) error {
		if err := os.RemoveAll(config.Data); err != nil {
			return fmt.Errorf("wipe cassandra's data: %w", err)
		}
		replacing, config.Seeds, config.RingDelay = true, seeds, max(config.RingDelay, replaceRingDelay)
		return config.write(dir)
	}
	s.run = func(ctx context.Context) (*process, error) {
		flags := config.javaFlags(dir)
		if replacing {
			flags = append(flags, "-Dcassandra.replace_address_first_boot="+config.Host)
		} else if o.Joined {
			flags = append(flags, "-Dcassandra.auto_bootstrap=false")
		}
		p, err := startProcess(o.On, s.Log, dir, java, append(flags, "-cp", classpath, "org.apache.cassandra.service.CassandraDaemon")...)
		if err != nil {
			return nil, err
		}
		if err := p.waitReady(ctx, func() error { return askCQL(ctx, s.Addr) }); err != nil {
			return nil, errors.Join(err, p.kill())
		}
		return p, nil
	}
	return s, s.Start(ctx)
}

// Nodetool runs a command of nodetool on the server's machine and returns what it says.
func (s *CassandraServer) Nodetool(ctx context.Context, args ...string) (string, error) {
	if s.run == nil {
		return "", errNotOurs
	}
	out, err := s.nodetool(ctx, args)
	if err != nil {
		return "", fmt.Errorf("nodetool %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// replaceRingDelay is the least RingDelay of a server that takes another's place. It is also how long such a server waits
// for the first answer of its seed, which interrupts its connections to that address whenever it finds the former one down.
const replaceRingDelay = 15 * time.Second

// Replace kills the server, takes its data away and starts it empty in the place that it had in its cluster, as one
// does whose disk is lost: it fetches what it should have from the others. seeds is the host:port of one of them. A start
// that Cassandra refuses, because the others' gossip is not ready for it, is tried again twice, as an operator does.
func (s *CassandraServer) Replace(ctx context.Context, seeds string) error {
	if err := s.Kill(); err != nil {
		return err
	}
	for try := 1; ; try++ {
		if err := s.replace(seeds); err != nil {
			return err
		}
		err := s.Start(ctx)
		if err == nil || try == 3 || ctx.Err() != nil {
			return err
		}
	}
}

// PrintCassandraConfig writes the cassandra.yaml that StartCassandra would use for these options.
func PrintCassandraConfig(w io.Writer, dir string, o CassandraOptions) error {
	config, err := cassandraConfig(dir, o)
	if err != nil {
		return err
	}
	return config.render(w)
}

// findCassandra returns the class path of Cassandra's jars and the java command.
func findCassandra() (classpath, java string, err error) {
	lib := filepath.Join(root(), ".cache", "cassandra", "lib")
	if found, _ := filepath.Glob(filepath.Join(lib, "cassandra-all-*.jar")); len(found) == 0 {
		return "", "", fmt.Errorf("cassandra's jars in %s: %w; run %s", lib, ErrMissing, installCassandra)
	}
	java, err = exec.LookPath("java")
	if err != nil {
		return "", "", fmt.Errorf("java, which cassandra needs: %w; run apt-get install openjdk-17-jre-headless", ErrMissing)
	}
	return filepath.Join(lib, "*"), java, nil
}

// cassandraValues is what the template of cassandra.yaml is filled with.
type cassandraValues struct {
	CassandraOptions
	JMXPort int
	Data    string // folder
}

func cassandraConfig(dir string, o CassandraOptions) (*cassandraValues, error) {
	v := &cassandraValues{CassandraOptions: o, Data: filepath.Join(dir, "data")}
	if v.Host == "" {
		v.Host = v.On.address()
	}
	if err := v.On.mayListen(v.Host); err != nil {
		return nil, err
	}
	ports := []int{9042, 7000, 7199} // on a machine that does not exist all are free
	if v.On == nil {
		var err error
		if ports, err = FreePorts(v.Host, 3); err != nil {
			return nil, err
		}
	}
	if v.Port == 0 {
		v.Port = ports[0]
	}
	if v.StoragePort == 0 {
		v.StoragePort = ports[1]
	}
	v.JMXPort = ports[2]
	if v.HeapMB == 0 {
		v.HeapMB = 1024
	}
	if v.Cluster == "" {
		v.Cluster = "wellhead-test"
	}
	if v.Seeds == "" {
		v.Seeds = net.JoinHostPort(v.Host, strconv.Itoa(v.StoragePort))
	}
	if v.DataCenter == "" {
		v.DataCenter = "datacenter1" // as with SimpleSnitch
	}
	if v.Tokens == 0 {
		v.Tokens = 1
	}
	if v.RingDelay == 0 {
		v.RingDelay = time.Millisecond
	}
	return v, nil
}

func (v *cassandraValues) render(w io.Writer) error {
	t, err := template.New("cassandra.yaml").Parse(cassandraYAML)
	if err != nil {
		return err
	}
	return t.Execute(w, v)
}

// write makes the server's folders and files.
func (v *cassandraValues) write(dir string) error {
	for _, sub := range []string{"", "/data", "/commitlog", "/saved_caches", "/hints", "/cdc_raw"} {
		if err := os.MkdirAll(v.Data+sub, 0o755); err != nil {
			return fmt.Errorf("make cassandra's folder: %w", err)
		}
	}
	var b strings.Builder
	if err := v.render(&b); err != nil {
		return fmt.Errorf("make cassandra.yaml: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cassandra.yaml"), []byte(b.String()), 0o644); err != nil {
		return err
	}
	rack := fmt.Sprintf("dc=%s\nrack=rack1\n", v.DataCenter)
	if err := os.WriteFile(filepath.Join(dir, "rackdc.properties"), []byte(rack), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "logback.xml"), logbackXML, 0o644)
}

// What Java 17 has to open to Cassandra 5.0.
var (
	javaExports = []string{
		"java.base/jdk.internal.misc", "java.base/java.lang.ref", "java.base/java.lang.reflect",
		"java.management.rmi/com.sun.jmx.remote.internal.rmi", "java.rmi/sun.rmi.registry", "java.rmi/sun.rmi.server",
		"java.sql/java.sql", "jdk.unsupported/sun.misc", "jdk.attach/sun.tools.attach", "jdk.compiler/com.sun.tools.javac.api",
	}
	javaOpens = []string{
		"java.base/java.io", "java.base/java.lang", "java.base/java.lang.module", "java.base/java.lang.reflect",
		"java.base/java.nio", "java.base/java.util", "java.base/java.util.concurrent", "java.base/java.util.concurrent.atomic",
		"java.base/jdk.internal.loader", "java.base/jdk.internal.math", "java.base/jdk.internal.module",
		"java.base/jdk.internal.ref", "java.base/jdk.internal.reflect", "java.base/jdk.internal.util.jar", "java.base/sun.nio.ch",
		"jdk.management/com.sun.management.internal", "java.rmi/sun.rmi.transport.tcp",
	}
)

func (v *cassandraValues) javaFlags(dir string) []string {
	flags := []string{
		fmt.Sprintf("-Xms%dm", v.HeapMB), fmt.Sprintf("-Xmx%dm", v.HeapMB), "-Xss512k",
		"-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData",
		"-Djdk.attach.allowAttachSelf=true",
		"-Djava.net.preferIPv4Stack=true",
		"-Djava.io.tmpdir=" + v.Data,
		"-Djna.tmpdir=" + v.Data,
		"-Dcassandra-foreground=yes",
		"-Dcassandra.config=file://" + filepath.Join(dir, "cassandra.yaml"),
		"-Dlogback.configurationFile=file://" + filepath.Join(dir, "logback.xml"),
		"-Dcassandra.storagedir=" + v.Data,
		"-Dcassandra.jmx.local.port=" + strconv.Itoa(v.JMXPort),
		"-Dcassandra.ring_delay_ms=" + strconv.FormatInt(v.RingDelay.Milliseconds(), 10),
		"-Dcassandra.skip_wait_for_gossip_to_settle=0",
		"-Dcassandra-rackdc.properties=file://" + filepath.Join(dir, "rackdc.properties"),
	}
	return append(flags, javaModules()...)
}

func javaModules() (flags []string) {
	for _, m := range javaExports {
		flags = append(flags, "--add-exports", m+"=ALL-UNNAMED")
	}
	for _, m := range javaOpens {
		flags = append(flags, "--add-opens", m+"=ALL-UNNAMED")
	}
	return flags
}

// askCQL sends an OPTIONS request of the native protocol (version 4) and wants SUPPORTED.
func askCQL(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	if _, err := exchange(conn, opOptions, nil, opSupported); err != nil {
		return fmt.Errorf("ask for the options: %w", err)
	}
	return nil
}
