// Command groupcache-go is groupcache-go v3 for `cargo xtask compare`, with a client transport that
// is tuned as one would in production.
package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/groupcache/groupcache-go/v3"
	"github.com/groupcache/groupcache-go/v3/transport"
	"github.com/groupcache/groupcache-go/v3/transport/peer"
	"peercache.example/caller"
)

func main() { caller.Main(caller.System{Serve: serve, Ask: ask}) }

// member is one of the two, which is `self`.
func member(setting *caller.Setting, self string, client http.RoundTripper) (*groupcache.Instance, *transport.HttpTransport, error) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	http := transport.NewHttpTransport(transport.HttpTransportOptions{Client: &http.Client{Transport: client}, Logger: quiet})
	// New makes the transport's instance its own.
	instance := groupcache.New(groupcache.Options{Transport: http, Logger: quiet})
	http.Register(instance)
	peers := []peer.Info{
		{Address: setting.Server, IsSelf: setting.Server == self},
		{Address: setting.Client, IsSelf: setting.Client == self},
	}
	return instance, http, instance.SetPeers(context.Background(), peers)
}

func serve(setting *caller.Setting, listener net.Listener) error {
	instance, handler, err := member(setting, setting.Server, nil)
	if err != nil {
		return err
	}
	load := func(_ context.Context, key string, sink transport.Sink) error {
		return sink.SetBytes(caller.Value(setting, key), time.Time{})
	}
	if _, err := instance.NewGroup("roles", setting.CacheBytes(), groupcache.GetterFunc(load)); err != nil {
		return err
	}
	return http.Serve(listener, handler)
}

func ask(setting *caller.Setting, client http.RoundTripper, fetches *atomic.Int64) (*caller.Asked, error) {
	instance, _, err := member(setting, setting.Client, client)
	if err != nil {
		return nil, err
	}
	// A group that may cache nothing, so that each get is a fetch.
	nothing := func(_ context.Context, _ string, sink transport.Sink) error { return sink.SetBytes(nil, time.Time{}) }
	group, err := instance.NewGroup("roles", 0, groupcache.GetterFunc(nothing))
	if err != nil {
		return nil, err
	}
	return &caller.Asked{
		Get: func(ctx context.Context, key string) (int, error) {
			var view transport.ByteView
			err := group.Get(ctx, key, transport.ByteViewSink(&view))
			return view.Len(), err
		},
		Far: func(key string) bool {
			_, far := instance.PickPeer(key)
			return far
		},
		Fetches: fetches,
	}, nil
}
