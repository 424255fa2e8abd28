package natstest

import (
	"bufio"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sourcegraph/conc"
)

// Direction is one or both ways of a connection.
type Direction uint8

// The directions.
const (
	ToServer Direction = 1 << iota
	ToClient
	BothWays = ToServer | ToClient
)

// Proxy stands between clients and their NATS server, and holds back or cuts what they say to one another. It is how a
// test makes a slow network, a half-dead connection, or a view of the fabric that is out of date. Safe for concurrent use.
type Proxy struct {
	URL string // for clients

	listener net.Listener
	server   string
	pumps    conc.WaitGroup

	mu       sync.Mutex // guards what follows
	moved    *sync.Cond // something below changed
	held     Direction
	subjects func(subject string) bool // of messages to clients; nil: none is held
	refusing bool
	closed   bool
	links    map[*link]struct{}

	prey      func(subject string) bool // of what clients publish; nil: nothing is swallowed
	swallowed chan struct{}             // closed when something was
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	once           sync.Once
}

func (l *link) close() {
	l.once.Do(func() {
		_ = l.client.Close()
		_ = l.server.Close()
	})
}

// StartProxy starts a proxy to the server at this URL, which need not run. The test's cleanup closes it.
func StartProxy(t testing.TB, url string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{
		URL: "nats://" + l.Addr().String(), listener: l, server: strings.TrimPrefix(url, "nats://"), links: make(map[*link]struct{}),
	}
	p.moved = sync.NewCond(&p.mu)
	p.pumps.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Hold lets no byte pass in this direction until [Proxy.Release]: the connection stands, and nobody hears anything.
func (p *Proxy) Hold(d Direction) { p.change(func() { p.held |= d }) }

// HoldSubjects keeps messages to clients back whose subject match says yes to, until [Proxy.Release], which delivers them
// before what comes later. Messages of a stream have the subject on which they were published. match must not block.
func (p *Proxy) HoldSubjects(match func(subject string) bool) {
	p.change(func() { p.subjects = match })
}

// Swallow takes the first message that a client publishes and match says yes to out of its connection, for good. Everything else
// passes. The channel is closed when it is gone. What is asked of JetStream's API is published too: so a client may be killed
// before one step of what it does and after all steps before, and what it wrote beside that arrives, as after any kill.
// match must not block.
func (p *Proxy) Swallow(match func(subject string) bool) <-chan struct{} {
	swallowed := make(chan struct{})
	p.change(func() { p.prey, p.swallowed = match, swallowed })
	return swallowed
}

// Release lets everything pass again.
func (p *Proxy) Release() {
	p.change(func() { p.held, p.subjects, p.prey, p.refusing = 0, nil, nil, false })
}

// Cut closes every connection. New ones pass.
func (p *Proxy) Cut() {
	p.change(func() {
		for l := range p.links {
			l.close()
		}
	})
}

// Refuse closes every connection, and new ones at once, until [Proxy.Release].
func (p *Proxy) Refuse() {
	p.change(func() { p.refusing = true })
	p.Cut()
}

func (p *Proxy) change(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
	p.moved.Broadcast()
}

func (p *Proxy) close() {
	_ = p.listener.Close()
	p.change(func() { p.closed = true })
	p.Cut()
	p.pumps.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.pumps.Go(func() { p.join(client) })
	}
}

// join connects a client with the server and pumps both ways until either ends.
func (p *Proxy) join(client net.Conn) {
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		_ = client.Close()
		return
	}
	l := &link{client: client, server: server}
	defer l.close()
	refused := false
	p.change(func() {
		if refused = p.refusing || p.closed; !refused {
			p.links[l] = struct{}{}
		}
	})
	if refused {
		return
	}
	defer p.change(func() { delete(p.links, l) })
	var ways conc.WaitGroup
	ways.Go(func() { defer l.close(); p.toServer(l) })
	ways.Go(func() { p.toClient(l) })
	ways.Wait()
}

// swallows reports whether a message that a client publishes does not pass.
func (p *Proxy) swallows(subject string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.prey == nil || !p.prey(subject) {
		return false
	}
	p.prey = nil
	close(p.swallowed)
	return true
}

// open waits until a direction is not held.
func (p *Proxy) open(d Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.held&d != 0 && !p.closed {
		p.moved.Wait()
	}
}

// toServer passes one frame after the other, and writes those that came together together.
func (p *Proxy) toServer(l *link) {
	in := bufio.NewReaderSize(l.client, 64<<10)
	out := bufio.NewWriterSize(l.server, 64<<10)
	for {
		frame, subject, err := readFrame(in)
		if err != nil {
			_ = out.Flush() // what came before the end
			return
		}
		p.open(ToServer)
		if subject == "" || !p.swallows(subject) {
			if _, err := out.Write(frame); err != nil {
				return
			}
		}
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
	}
}

// toClient passes one frame of the protocol after the other. Frames whose subject is held wait beside; a goroutine of
// their own writes them when they are let go, for no other frame need come then.
func (p *Proxy) toClient(l *link) {
	in := bufio.NewReaderSize(l.server, 64<<10)
	q := &queue{}
	var late conc.WaitGroup
	defer late.Wait()
	ended := false
	defer p.change(func() { ended = true })
	late.Go(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for !ended && !p.closed {
			if p.subjects == nil && q.any() {
				p.mu.Unlock()
				q.flush(l.client)
				p.mu.Lock()
				continue
			}
			p.moved.Wait()
		}
	})
	for {
		frame, subject, err := readFrame(in)
		if err != nil {
			l.close()
			return
		}
		p.open(ToClient)
		p.mu.Lock()
		hold := subject != "" && p.subjects != nil && p.subjects(subject)
		p.mu.Unlock()
		if hold {
			q.add(frame)
			continue
		}
		p.mu.Lock()
		free := p.subjects == nil
		p.mu.Unlock()
		if free {
			q.flush(l.client)
		}
		if !q.write(l.client, frame) {
			// The client has gone; toServer ends with the last that it wrote. What nobody reads would reset the connection.
			_, _ = io.Copy(io.Discard, l.server)
			return
		}
	}
}

// queue holds frames back and orders who writes.
type queue struct {
	mu     sync.Mutex
	frames [][]byte
}

func (q *queue) any() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.frames) > 0
}

func (q *queue) add(frame []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.frames = append(q.frames, frame)
}

func (q *queue) flush(to io.Writer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range q.frames {
		if _, err := to.Write(f); err != nil {
			break
		}
	}
	q.frames = nil
}

func (q *queue) write(to io.Writer, frame []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, err := to.Write(frame)
	return err == nil
}

var messages = []string{"MSG", "HMSG", "PUB", "HPUB"}

// readFrame reads one frame of the protocol, either way, and the subject if it is a message.
func readFrame(in *bufio.Reader) (frame []byte, subject string, err error) {
	frame, err = in.ReadBytes('\n')
	if err != nil {
		return nil, "", err
	}
	words := strings.Fields(string(frame[:min(len(frame), 4096)]))
	if len(words) < 3 || !slices.Contains(messages, words[0]) {
		return frame, "", nil
	}
	size, err := strconv.Atoi(words[len(words)-1])
	if err != nil {
		return nil, "", err
	}
	head := len(frame)
	frame = append(frame, make([]byte, size+len("\r\n"))...)
	_, err = io.ReadFull(in, frame[head:])
	return frame, words[1], err
}
