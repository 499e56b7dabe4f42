// Package caller is what the Go programs share: flags, the two subcommands, and the loop of the
// callers.
//
// A program is a server or a client of `cargo xtask compare`; what the two print and when they end
// is written down in benches/peers/README.md, for the Rust harness does the same.
package caller

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
)

// SlowLoad is how long the loader takes for a key that starts with slowPrefix.
const SlowLoad = 50 * time.Millisecond

const slowPrefix = "slow:"

// Setting is what a run is made with.
type Setting struct {
	Server, Client       string
	ValueBytes, Keys     int
	Threads, Connections int
	Callers, Batch       int
	Seconds              float64
	SlowEvery            int
}

// ServerURL is the name of the member that owns the keys.
func (s *Setting) ServerURL() string { return "http://" + s.Server }

// ClientURL is the name of the member that asks.
func (s *Setting) ClientURL() string { return "http://" + s.Client }

// CacheBytes is a budget that holds all keys of the run, whatever the overhead.
func (s *Setting) CacheBytes() int64 { return 2*int64(s.Keys)*int64(s.ValueBytes) + 64<<20 }

// Asked is a client that is ready to be asked.
type Asked struct {
	// Get returns the length of the value.
	Get func(ctx context.Context, key string) (int, error)
	// Far is whether another member owns the key.
	Far func(key string) bool
	// Fetches counts the requests to the other member.
	Fetches *atomic.Int64
}

// System is a rival.
type System struct {
	// Serve answers peers on the listener, with values made by Load.
	Serve func(setting *Setting, listener net.Listener) error
	// Ask joins the cluster as the member that asks. It serves nobody and keeps nothing that it
	// fetched.
	Ask func(setting *Setting, transport http.RoundTripper, fetches *atomic.Int64) (*Asked, error)
}

// Main runs the subcommand that the arguments name, and does not return.
func Main(system System) {
	if err := run(system, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(system System, arguments []string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("write `server` or `client` first")
	}
	setting, err := parse(arguments[1:])
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(setting.Threads)
	go endWithStdin()
	switch arguments[0] {
	case "server":
		return serve(system, setting)
	case "client":
		return ask(system, setting)
	}
	return fmt.Errorf("write `server` or `client`, not %q", arguments[0])
}

func parse(arguments []string) (*Setting, error) {
	var s Setting
	flags := flag.NewFlagSet("peer", flag.ContinueOnError)
	flags.StringVar(&s.Server, "server", "", "address of the member that owns the keys")
	flags.StringVar(&s.Client, "client", "", "address of the member that asks")
	flags.IntVar(&s.ValueBytes, "value-bytes", 1000, "bytes of a value")
	flags.IntVar(&s.Keys, "keys", 1000, "how many keys there are")
	flags.IntVar(&s.Threads, "threads", 2, "threads that run code")
	flags.IntVar(&s.Connections, "connections", 512, "most connections")
	flags.IntVar(&s.Callers, "callers", 64, "how many ask at once")
	flags.IntVar(&s.Batch, "batch", 1, "how many keys a caller asks for in one go")
	flags.Float64Var(&s.Seconds, "seconds", 1, "how long to measure")
	flags.IntVar(&s.SlowEvery, "slow-every", 0, "one in so many gets is for a new key that is slow to load; 0: none")
	return &s, flags.Parse(arguments)
}

func serve(system System, setting *Setting) error {
	listener, err := net.Listen("tcp", setting.Server)
	if err != nil {
		return err
	}
	// The listener takes connections already; they wait until they are served.
	say(map[string]any{"ready": true})
	return system.Serve(setting, listener)
}

func ask(system System, setting *Setting) error {
	fetches := new(atomic.Int64)
	asked, err := system.Ask(setting, &counting{inner: transport(setting), fetches: fetches}, fetches)
	if err != nil {
		return err
	}
	report, err := measure(setting, asked)
	if err != nil {
		return err
	}
	say(report)
	// Somebody is to look at our memory.
	select {}
}

// The idle connections that a tuned client keeps.
const idleConnections = 512

// transport is the tuned one: it keeps its idle connections, and does not compress.
func transport(setting *Setting) *http.Transport {
	return &http.Transport{
		MaxIdleConns:        idleConnections,
		MaxIdleConnsPerHost: idleConnections,
		MaxConnsPerHost:     setting.Connections,
		DisableCompression:  true,
	}
}

type counting struct {
	inner   http.RoundTripper
	fetches *atomic.Int64
}

func (c *counting) RoundTrip(request *http.Request) (*http.Response, error) {
	c.fetches.Add(1)
	return c.inner.RoundTrip(request)
}

// Value is what the owner's loader makes for a key, after its time.
func Value(setting *Setting, key string) []byte {
	if strings.HasPrefix(key, slowPrefix) {
		time.Sleep(SlowLoad)
	}
	value := make([]byte, setting.ValueBytes)
	for i := range value {
		value[i] = byte(i%251 + 1)
	}
	return value
}

func say(line any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

// endWithStdin ends this program when the one that started it has gone, or wants it to go.
func endWithStdin() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}
