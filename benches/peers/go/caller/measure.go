package caller

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// warmUp is asked before anything is measured.
	warmUp = 300 * time.Millisecond
	// pause is what the measuring process has to look at us before the callers start.
	pause = 100 * time.Millisecond
	// histograms is how many the callers share: few, so that 256 callers do not weigh in the memory
	// that is measured.
	histograms = 8
	// latencyMax is far beyond what anybody waits here.
	latencyMax = int64(60 * time.Second)
)

// Report is what a run came to. Gets counts keys, the latencies are of single gets or of whole
// batches, in microseconds, and without those of slow keys. Crossed counts requests to the other
// member.
type Report struct {
	Gets    int64   `json:"gets"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50_us"`
	P99     float64 `json:"p99_us"`
	Max     float64 `json:"max_us"`
	Crossed int64   `json:"crossed"`
	Slow    int64   `json:"slow"`
}

// round is the state that the callers of one stretch of time share.
type round struct {
	setting  *Setting
	asked    *Asked
	keys     []string
	slowKeys []string
	nextSlow *atomic.Int64
	gets     atomic.Int64
	slow     atomic.Int64
	shards   [histograms]shard
	failure  atomic.Pointer[error]
}

type shard struct {
	sync.Mutex
	*hdrhistogram.Histogram
}

func measure(setting *Setting, asked *Asked) (*Report, error) {
	keys, err := farKeys(setting, asked)
	if err != nil {
		return nil, err
	}
	var slow []string
	if setting.SlowEvery > 0 {
		slow = farSlowKeys(setting, asked)
	}
	nextSlow := new(atomic.Int64)
	start := func() *round {
		r := &round{setting: setting, asked: asked, keys: keys, slowKeys: slow, nextSlow: nextSlow}
		for i := range r.shards {
			r.shards[i].Histogram = hdrhistogram.New(1, latencyMax, 3)
		}
		return r
	}
	if _, err := start().run(warmUp); err != nil {
		return nil, err
	}
	measured := start()
	say(map[string]any{"warm": true})
	time.Sleep(pause)
	before := asked.Fetches.Load()
	took, err := measured.run(time.Duration(setting.Seconds * float64(time.Second)))
	if err != nil {
		return nil, err
	}
	return measured.report(took, asked.Fetches.Load()-before), nil
}

// farKeys are keys that the other member owns, and has loaded when this returns: what is loaded
// here is empty.
func farKeys(setting *Setting, asked *Asked) ([]string, error) {
	keys := make([]string, 0, setting.Keys)
	for number := 0; len(keys) < setting.Keys; number++ {
		if number > 100*setting.Keys {
			return nil, fmt.Errorf("of %d keys the other member owns %d only", number, len(keys))
		}
		key := fmt.Sprintf("role:%011d", number)
		length, err := asked.Get(context.Background(), key)
		if err != nil {
			return nil, err
		}
		if length == setting.ValueBytes {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// farSlowKeys are as many as the callers could ask for if they asked for nothing else: a key is
// slow once, and cached then.
func farSlowKeys(setting *Setting, asked *Asked) []string {
	seconds := setting.Seconds + warmUp.Seconds() + SlowLoad.Seconds()
	most := setting.Callers * int(math.Ceil(seconds/SlowLoad.Seconds()))
	keys := make([]string, 0, most)
	for number := 0; len(keys) < most; number++ {
		if key := fmt.Sprintf("%s%011d", slowPrefix, number); asked.Far(key) {
			keys = append(keys, key)
		}
	}
	return keys
}

func (r *round) run(length time.Duration) (time.Duration, error) {
	started := time.Now()
	end := started.Add(length)
	var callers sync.WaitGroup
	for number := 0; number < r.setting.Callers; number++ {
		callers.Add(1)
		go func(number int) {
			defer callers.Done()
			if err := r.call(number, end); err != nil {
				r.failure.CompareAndSwap(nil, &err)
			}
		}(number)
	}
	callers.Wait()
	took := time.Since(started)
	if failure := r.failure.Load(); failure != nil {
		return 0, *failure
	}
	return took, nil
}

// call asks for one key after another until the time is over.
func (r *round) call(caller int, end time.Time) error {
	shard := &r.shards[caller%histograms]
	now := time.Now()
	for turn := 0; now.Before(end); turn++ {
		slow := r.isSlow(caller, turn)
		if err := r.ask(caller, turn, slow); err != nil {
			return err
		}
		then := time.Now()
		if !slow {
			shard.Lock()
			_ = shard.RecordValue(int64(then.Sub(now)))
			shard.Unlock()
		}
		r.gets.Add(int64(r.setting.Batch))
		now = then
	}
	return nil
}

// isSlow gives each caller its share of slow keys, and not all callers at the same time.
func (r *round) isSlow(caller, turn int) bool {
	every := r.setting.SlowEvery
	return every > 0 && (turn+37*caller)%every == every/2
}

func (r *round) ask(caller, turn int, slow bool) error {
	switch {
	case slow:
		r.slow.Add(1)
		return r.get(r.slowKeys[r.nextSlow.Add(1)-1])
	case r.setting.Batch > 1:
		return r.getMany(caller, turn)
	}
	return r.get(r.key(caller, turn, 0))
}

// key has every caller go round keys of its own, or one that is not given the processor for long
// would ask for what another asks for just then, and the two would share a fetch.
func (r *round) key(caller, turn, position int) string {
	return r.keys[((caller+turn*r.setting.Callers)*r.setting.Batch+position)%len(r.keys)]
}

func (r *round) get(key string) error {
	length, err := r.asked.Get(context.Background(), key)
	if err == nil && length != r.setting.ValueBytes {
		err = fmt.Errorf("%s has %d bytes: it was not fetched", key, length)
	}
	return err
}

// getMany is the best one can do where there is no call for it: all at once.
func (r *round) getMany(caller, turn int) error {
	failures := make(chan error, r.setting.Batch)
	for i := 0; i < r.setting.Batch; i++ {
		go func(key string) { failures <- r.get(key) }(r.key(caller, turn, i))
	}
	var failure error
	for i := 0; i < r.setting.Batch; i++ {
		if err := <-failures; err != nil {
			failure = err
		}
	}
	return failure
}

func (r *round) report(took time.Duration, crossed int64) *Report {
	all := r.shards[0].Histogram
	for i := 1; i < histograms; i++ {
		all.Merge(r.shards[i].Histogram)
	}
	micros := func(percent float64) float64 { return float64(all.ValueAtQuantile(percent)) / 1e3 }
	return &Report{
		Gets:    r.gets.Load(),
		Seconds: took.Seconds(),
		P50:     micros(50),
		P99:     micros(99),
		Max:     float64(all.Max()) / 1e3,
		Crossed: crossed,
		Slow:    r.slow.Load(),
	}
}
