// A golang/groupcache process for the test of role --dialect golang: one peer of a ring, which
// loads over HTTP.
//
//	GET /get?key=K   -> the value, by way of the group
//	GET /owner?key=K -> the peer that this process picks for the key
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"

	"github.com/golang/groupcache"
)

func main() {
	listen := flag.String("listen", "", "where to listen, HOST:PORT")
	self := flag.String("self", "", "this peer's name, a URL")
	peers := flag.String("peers", "", "all peers' names, separated by commas")
	origin := flag.String("origin", "", "what a key is appended to, escaped, to load it")
	flag.Parse()

	pool := groupcache.NewHTTPPoolOpts(*self, nil)
	pool.Set(strings.Split(*peers, ",")...)
	group := groupcache.NewGroup("personsrole_cache", 64<<20, loader(*origin))

	mux := http.NewServeMux()
	mux.HandleFunc("/get", func(w http.ResponseWriter, r *http.Request) {
		var value []byte
		if err := group.Get(r.Context(), r.FormValue("key"), groupcache.AllocatingByteSliceSink(&value)); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Write(value)
	})
	mux.HandleFunc("/owner", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, owner(pool, *self, r.FormValue("key")))
	})

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on " + *self)
	// Not by way of the mux, which redirects keys such as "/" to where they would be another key.
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/_groupcache/") {
			pool.ServeHTTP(w, r)
		} else {
			mux.ServeHTTP(w, r)
		}
	}))
	// The program that started this process holds its standard input open.
	io.Copy(io.Discard, os.Stdin)
}

func loader(origin string) groupcache.Getter {
	return groupcache.GetterFunc(func(_ context.Context, key string, dest groupcache.Sink) error {
		response, err := http.Get(origin + strings.ReplaceAll(url.QueryEscape(key), "+", "%20"))
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("the origin answered %s", response.Status)
		}
		value, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		return dest.SetBytes(value)
	})
}

// owner is the peer that the pool picks, which it tells nobody: the name is a private field of what
// it asks with.
func owner(pool *groupcache.HTTPPool, self, key string) string {
	peer, ok := pool.PickPeer(key)
	if !ok {
		return self
	}
	return strings.TrimSuffix(reflect.ValueOf(peer).Elem().FieldByName("baseURL").String(), "/_groupcache/")
}
