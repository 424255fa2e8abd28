package uids

import "testing"

// TestUsersAreNotShared: two drivers of a host never have a uid in common, and a block is free again with its lock. Not
// parallel: a process that another test forks holds all locks until it executes.
func TestUsersAreNotShared(t *testing.T) {
	dir := t.TempDir()
	taken := map[uint32]bool{}
	var all []*Block
	for range Size / BlockSize {
		u, err := Claim(dir)
		if err != nil {
			t.Fatal(err)
		}
		if taken[u.First] || !In(u.First) || !In(u.First+BlockSize-1) || u.First%BlockSize != First%BlockSize {
			t.Fatalf("block from %d", u.First)
		}
		taken[u.First] = true
		all = append(all, u)
	}
	if _, err := Claim(dir); err == nil {
		t.Error("more blocks than there are")
	}
	if err := all[17].Lock.Close(); err != nil {
		t.Fatal(err)
	}
	u, err := Claim(dir)
	if err != nil || u.First != all[17].First {
		t.Errorf("block from %d instead of %d, %v", u.First, all[17].First, err)
	}
	for i, each := range append(all, u) {
		if i != 17 {
			_ = each.Lock.Close()
		}
	}
}

// TestUsersComeBackLast: a uid is used again after all others, and never one that was not given back.
func TestUsersComeBackLast(t *testing.T) {
	t.Parallel()
	u := &Block{First: First, next: First}
	for i := range uint32(BlockSize) {
		uid, err := u.Take()
		if err != nil || uid != First+i {
			t.Fatalf("%d, %v", uid, err)
		}
		if i%2 == 0 {
			u.Give(uid)
		}
	}
	for i := uint32(0); i < BlockSize; i += 2 {
		if uid, err := u.Take(); err != nil || uid != First+i {
			t.Fatalf("%d, %v", uid, err)
		}
	}
	if uid, err := u.Take(); err == nil {
		t.Errorf("%d is in use", uid)
	}
}
