package testenv

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
)

// Network is a network of machines that do not exist: network namespaces of this machine, joined by a bridge, each
// with an address of its own that only this machine reaches. It can be parted and healed. It is used by one
// goroutine.
type Network struct {
	name     string // of the bridge, and what all else begins with
	prefix   string // of the addresses, as 10.99.7.
	machines []*Machine
}

// Machine is one of a network. Processes that are started on it see no other network. The nil Machine is this
// machine itself.
type Machine struct {
	Address   string
	namespace string
	port      string // its end of the cable at the bridge
	parted    []*Machine
}

// NetworkMissing says why there can be no Network here, nil when there can.
func NetworkMissing() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("network namespaces: %w: they are Linux's", ErrMissing)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("network namespaces: %w: only root may make them", ErrMissing)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return fmt.Errorf("the command ip: %w: apt-get install iproute2", ErrMissing)
	}
	return nil
}

// NewNetwork makes a network for this test alone; it goes with the test. Where there can be none the test ends as
// with a server that is missing.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	if err := NetworkMissing(); err != nil {
		Missing(t, err.Error(), "run the test as root on Linux")
	}
	n, err := makeNetwork()
	if n != nil {
		t.Cleanup(func() {
			if err := n.remove(); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// networks counts those of this process.
var networks atomic.Uint32

// networkName is what all of a network is named after, in a list of ip: the process it ends with, and a letter that is
// no digit. Ports do not match: they go with their namespace, a moment after it.
var networkName = regexp.MustCompile(`(?m)^(wh([0-9a-f]+)[g-z](?:i|-[0-9]+)?)(?:[ @]|$)`)

// networkOf names the next network of a process.
func networkOf(pid int) string { return fmt.Sprintf("wh%x%c", pid, 'g'+rune(networks.Add(1)%20)) }

func makeNetwork() (*Network, error) {
	if err := removeLeft(); err != nil {
		return nil, err
	}
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	n := &Network{
		name:   networkOf(os.Getpid()),
		prefix: fmt.Sprintf("10.%d.%d.", 64+b[0]%128, b[1]),
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("find a free network: %w", err)
	}
	for _, a := range addresses {
		if of, ok := a.(*net.IPNet); ok && of.Contains(net.ParseIP(n.prefix+"1")) {
			return nil, fmt.Errorf("the network %s0/24 is in use here; try again", n.prefix)
		}
	}
	for _, bridge := range []string{n.name, n.island()} {
		if err := ip("link", "add", bridge, "type", "bridge"); err != nil {
			return nil, err
		}
		if err := ip("link", "set", bridge, "up"); err != nil {
			return n, err
		}
	}
	return n, ip("address", "add", n.prefix+"1/24", "dev", n.name)
}

// removeLeft removes what processes have left that ended without removing it, as a test that ran into its time limit.
func removeLeft() error {
	for _, kind := range []string{"netns", "link"} {
		out, err := exec.Command("ip", "-brief", kind, "list").Output()
		if err != nil {
			return fmt.Errorf("ip %s list: %w", kind, err)
		}
		for _, found := range networkName.FindAllStringSubmatch(string(out), -1) {
			pid, err := strconv.ParseInt(found[2], 16, 32)
			if err != nil || alive(int(pid)) {
				continue
			}
			if err := ip(kind, "delete", found[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// alive tells whether there is a process with this id.
func alive(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}

// island is the bridge of those that are cut off.
func (n *Network) island() string { return n.name + "i" }

// Add makes a machine. It goes with the network.
func (n *Network) Add(t testing.TB) *Machine {
	t.Helper()
	number := len(n.machines) + 2 // 1 is the test's own
	m := &Machine{
		Address: fmt.Sprintf("%s%d", n.prefix, number), namespace: fmt.Sprintf("%s-%d", n.name, number), port: fmt.Sprintf("%s.%d", n.name, number),
	}
	if err := ip("netns", "add", m.namespace); err != nil {
		t.Fatal(err)
	}
	n.machines = append(n.machines, m)
	for _, step := range [][]string{
		{"link", "add", m.port, "type", "veth", "peer", "name", "eth0", "netns", m.namespace},
		{"link", "set", m.port, "master", n.name, "up"},
		{"-n", m.namespace, "address", "add", m.Address + "/24", "dev", "eth0"},
		{"-n", m.namespace, "link", "set", "eth0", "up"},
		{"-n", m.namespace, "link", "set", "lo", "up"},
	} {
		if err := ip(step...); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// CutOff cuts these machines off: they reach one another, and nobody else, this machine included; what is sent is lost
// without a word.
func (n *Network) CutOff(machines ...*Machine) error {
	for _, m := range machines {
		if err := ip("link", "set", m.port, "master", n.island()); err != nil {
			return err
		}
	}
	return nil
}

// Part has two machines not reach each other, while both reach all others.
func (n *Network) Part(a, b *Machine) error {
	for _, pair := range [][2]*Machine{{a, b}, {b, a}} {
		if err := ip("-n", pair[0].namespace, "route", "add", "blackhole", pair[1].Address+"/32"); err != nil {
			return err
		}
		pair[0].parted = append(pair[0].parted, pair[1])
	}
	return nil
}

// Heal has all machines reach one another again.
func (n *Network) Heal() error {
	var all []error
	for _, m := range n.machines {
		all = append(all, ip("link", "set", m.port, "master", n.name))
		for _, other := range m.parted {
			all = append(all, ip("-n", m.namespace, "route", "del", "blackhole", other.Address+"/32"))
		}
		m.parted = nil
	}
	return errors.Join(all...)
}

// remove removes all of it; the cables go with their namespaces.
func (n *Network) remove() error {
	var all []error
	for _, m := range n.machines {
		all = append(all, ip("netns", "delete", m.namespace))
	}
	return errors.Join(append(all, ip("link", "delete", n.name), ip("link", "delete", n.island()))...)
}

// Command returns what to run so that a command runs on the machine. The process that is started becomes the
// command itself, so signals reach it.
func (m *Machine) Command(name string, args ...string) (string, []string) {
	if m == nil {
		return name, args
	}
	return "ip", append([]string{"netns", "exec", m.namespace, name}, args...)
}

// address is where servers on the machine listen.
func (m *Machine) address() string {
	if m == nil {
		return "127.0.0.1"
	}
	return m.Address
}

// mayListen tells whether a server may listen on the address: loopback, or that of a machine that does not exist.
func (m *Machine) mayListen(address string) error {
	if m != nil && address == m.Address {
		return nil
	}
	if ip := net.ParseIP(address); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("the address %q of a test's server is not a loopback address", address)
	}
	return nil
}

// ip runs the command of that name.
func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}
