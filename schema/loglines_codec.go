package schema

import "github.com/vmihailenco/msgpack/v5"

var _ msgpack.CustomEncoder = (*LogLine)(nil)

// EncodeMsgpack writes what the tags say. Two lines are of every call, and by reflection each costs a dozen allocations.
func (l *LogLine) EncodeMsgpack(enc *msgpack.Encoder) error {
	w := lineWriter{enc: enc}
	n := 1
	for _, there := range [...]bool{l.RequestID != "", l.Kind != 0, l.Platform, l.JSON, l.Cut, len(l.Text) > 0, l.Duration != 0,
		l.Init != 0, l.MemoryMB != 0, l.UsedMB != 0, l.Failed, l.ErrorType != "", l.ErrorMessage != "", l.Bytes != 0, l.Count != 0} {
		if there {
			n++
		}
	}
	w.err = enc.EncodeMapLen(n)
	if w.key("t", true) {
		w.err = enc.EncodeTime(l.Time)
	}
	if w.key("r", l.RequestID != "") {
		w.err = enc.EncodeString(l.RequestID)
	}
	if w.key("k", l.Kind != 0) {
		w.err = enc.EncodeUint(uint64(l.Kind))
	}
	if w.key("p", l.Platform) {
		w.err = enc.EncodeBool(true)
	}
	if w.key("j", l.JSON) {
		w.err = enc.EncodeBool(true)
	}
	if w.key("c", l.Cut) {
		w.err = enc.EncodeBool(true)
	}
	if w.key("x", len(l.Text) > 0) {
		w.err = enc.EncodeBytes(l.Text)
	}
	if w.key("d", l.Duration != 0) {
		w.err = enc.EncodeInt(int64(l.Duration))
	}
	if w.key("i", l.Init != 0) {
		w.err = enc.EncodeInt(int64(l.Init))
	}
	if w.key("m", l.MemoryMB != 0) {
		w.err = enc.EncodeInt(int64(l.MemoryMB))
	}
	if w.key("u", l.UsedMB != 0) {
		w.err = enc.EncodeInt(int64(l.UsedMB))
	}
	if w.key("f", l.Failed) {
		w.err = enc.EncodeBool(true)
	}
	if w.key("e", l.ErrorType != "") {
		w.err = enc.EncodeString(l.ErrorType)
	}
	if w.key("w", l.ErrorMessage != "") {
		w.err = enc.EncodeString(l.ErrorMessage)
	}
	if w.key("b", l.Bytes != 0) {
		w.err = enc.EncodeInt(l.Bytes)
	}
	if w.key("n", l.Count != 0) {
		w.err = enc.EncodeInt(l.Count)
	}
	return w.err
}

// lineWriter keeps the first error.
type lineWriter struct {
	enc *msgpack.Encoder
	err error
}

// key writes the name of a member that is there, and reports whether its value has to follow.
func (w *lineWriter) key(name string, there bool) bool {
	if !there || w.err != nil {
		return false
	}
	w.err = w.enc.EncodeString(name)
	return w.err == nil
}
