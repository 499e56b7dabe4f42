// Command golang is golang/groupcache for `cargo xtask compare`, with a client transport that is
// tuned as one would in production.
package main

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/golang/groupcache"
	"peercache.example/caller"
)

func main() { caller.Main(caller.System{Serve: serve, Ask: ask}) }

func serve(setting *caller.Setting, listener net.Listener) error {
	pool := groupcache.NewHTTPPoolOpts(setting.ServerURL(), nil)
	pool.Set(setting.ServerURL(), setting.ClientURL())
	load := func(_ context.Context, key string, sink groupcache.Sink) error {
		return sink.SetBytes(caller.Value(setting, key))
	}
	groupcache.NewGroup("roles", setting.CacheBytes(), groupcache.GetterFunc(load))
	return http.Serve(listener, pool)
}

func ask(setting *caller.Setting, transport http.RoundTripper, fetches *atomic.Int64) (*caller.Asked, error) {
	pool := groupcache.NewHTTPPoolOpts(setting.ClientURL(), nil)
	pool.Transport = func(context.Context) http.RoundTripper { return transport }
	pool.Set(setting.ServerURL(), setting.ClientURL())
	// A group that may cache nothing, so that each get is a fetch.
	nothing := func(_ context.Context, _ string, sink groupcache.Sink) error { return sink.SetBytes(nil) }
	group := groupcache.NewGroup("roles", 0, groupcache.GetterFunc(nothing))
	return &caller.Asked{
		Get: func(ctx context.Context, key string) (int, error) {
			var view groupcache.ByteView
			err := group.Get(ctx, key, groupcache.ByteViewSink(&view))
			return view.Len(), err
		},
		Far: func(key string) bool {
			_, far := pool.PickPeer(key)
			return far
		},
		Fetches: fetches,
	}, nil
}
