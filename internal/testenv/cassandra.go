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
	Host          string // loopback address to listen on; "" = 127.0.0.1
	Port          int    // for clients; 0 = a free one
	HeapMB        int    // 0 = 1024
	CommitlogSync string // periodic (default; a kill -9 loses up to 0.1 s of acknowledged writes), group or batch (nothing; slower one by one)
	Latest        bool   // what cassandra_latest.yaml recommends for version 5: memtables are tries outside the heap, tables BTI
	Extra         string // more lines for cassandra.yaml

	// For several servers in one cluster.
	Cluster     string        // cluster name; "" = wellhead-test
	Seeds       string        // host:storage port of the first server; "" = itself
	StoragePort int           // 0 = a free one
	Tokens      int           // 0 = 1, which starts fastest
	RingDelay   time.Duration // how long a joining server listens first; 0 = 1 ms, with several servers take 2 s
}

// CassandraServer is a running Cassandra, or one that others share (see the package comment).
type CassandraServer struct {
	server
	Addr        string // host:port for clients
	StorageAddr string // host:port for other servers, "" when not ours
	Log         string // path of its log, "" when not ours
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
	for _, sub := range []string{"", "/data", "/commitlog", "/saved_caches", "/hints", "/cdc_raw"} {
		if err := os.MkdirAll(config.Data+sub, 0o755); err != nil {
			return nil, fmt.Errorf("make cassandra's folder: %w", err)
		}
	}
	if err := config.write(dir); err != nil {
		return nil, err
	}
	args := append(config.javaFlags(dir), "-cp", classpath, "org.apache.cassandra.service.CassandraDaemon")
	s := &CassandraServer{
		Addr:        net.JoinHostPort(config.Host, strconv.Itoa(config.Port)),
		StorageAddr: net.JoinHostPort(config.Host, strconv.Itoa(config.StoragePort)),
		Log:         filepath.Join(dir, "cassandra.log"),
	}
	s.run = func(ctx context.Context) (*process, error) {
		p, err := startProcess(s.Log, dir, java, args...)
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
		v.Host = "127.0.0.1"
	}
	if ip := net.ParseIP(v.Host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("cassandra's address %q is not a loopback address", v.Host)
	}
	ports, err := FreePorts(v.Host, 3)
	if err != nil {
		return nil, err
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

func (v *cassandraValues) write(dir string) error {
	var b strings.Builder
	if err := v.render(&b); err != nil {
		return fmt.Errorf("make cassandra.yaml: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cassandra.yaml"), []byte(b.String()), 0o644); err != nil {
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
	}
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
