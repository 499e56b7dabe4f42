module peercache.example/groupcache-go

go 1.21.7

require (
	github.com/groupcache/groupcache-go/v3 v3.2.0
	peercache.example/caller v0.0.0
)

require (
	github.com/HdrHistogram/hdrhistogram-go v1.1.2 // indirect
	github.com/segmentio/fasthash v1.0.3 // indirect
	golang.org/x/net v0.22.0 // indirect
	google.golang.org/protobuf v1.28.1 // indirect
)

replace peercache.example/caller => ../caller
