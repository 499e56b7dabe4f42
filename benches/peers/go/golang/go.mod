module peercache.example/golang

go 1.21

require (
	github.com/golang/groupcache v0.0.0-20241129210726-2c02b8208cf8
	peercache.example/caller v0.0.0
)

require (
	github.com/HdrHistogram/hdrhistogram-go v1.1.2 // indirect
	github.com/golang/protobuf v1.5.4 // indirect
	google.golang.org/protobuf v1.33.0 // indirect
)

replace peercache.example/caller => ../caller
