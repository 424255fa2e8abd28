package unpack

import (
	"archive/zip"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// What a package may hold. SECURITY 3.
const (
	MaxFiles    = 50_000    // entries of a zip, folders too
	MaxUnpacked = 250 << 20 // bytes of all files together
	MaxRatio    = 100       // unpacked bytes for one of the zip, from freeRatio on
	MaxPath     = 1024      // bytes of a name
	MaxDepth    = 64        // parts of a name

	maxName      = 255 // bytes of one part of a name, as file systems have it
	maxTarget    = 1024
	maxDirectory = 12 << 20 // of the zip: 50,000 entries of 250 bytes
	freeRatio    = 1 << 20  // packages that unpack to less may have any ratio: a short text of blanks has a large one

	localHeader   = 30 // bytes that stand in front of an entry's data at least (APPNOTE 4.3.7)
	encryptedFlag = 1
)

// readEntries parses the directory of a zip and checks all of it before a byte is unpacked.
func readEntries(file io.ReaderAt, size int64) ([]*zip.File, error) {
	// archive/zip allocates for as many entries as there are, some hundred bytes for each 46 that one takes at least.
	meter := &meter{from: file, left: maxDirectory}
	archive, err := zip.NewReader(meter, size)
	if err != nil {
		return nil, refuseZip(err, file)
	}
	meter.left = -1
	if len(archive.File) > MaxFiles {
		return nil, refuse("it has %d entries; %d are allowed", len(archive.File), MaxFiles)
	}
	var total uint64
	seen, folders := make(map[string]bool, len(archive.File)), map[string]bool{}
	for _, entry := range archive.File {
		if err := checkEntry(entry); err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(entry.Name, "/")
		if seen[name] {
			return nil, refuse("two entries are named %q", name)
		}
		seen[name] = true
		// One entry can bring along as many folders as its name is deep.
		for at := path.Dir(name); at != "." && !folders[at]; at = path.Dir(at) {
			folders[at] = true
		}
		if len(folders) > MaxFiles {
			return nil, refuse("its entries lie in more than %d folders", MaxFiles)
		}
		// Each is below 2^63 by now, so the sum cannot wrap before it is refused.
		if total += entry.UncompressedSize64; total > MaxUnpacked {
			return nil, refuse("it unpacks to more than %d bytes", MaxUnpacked)
		}
	}
	if total > freeRatio && total > MaxRatio*uint64(size) {
		return nil, refuse("%d bytes unpack to %d: more than %d times as many", size, total, MaxRatio)
	}
	return archive.File, checkOverlaps(archive.File)
}

// checkEntry checks what one entry says of itself.
func checkEntry(entry *zip.File) error {
	if err := checkName(entry.Name); err != nil {
		return err
	}
	mode := entry.Mode()
	folder := strings.HasSuffix(entry.Name, "/")
	switch {
	case entry.Flags&encryptedFlag != 0:
		return refuse("entry %q is encrypted", entry.Name)
	case entry.Method != zip.Store && entry.Method != zip.Deflate:
		return refuse("entry %q is packed by method %d; stored and deflated ones are read", entry.Name, entry.Method)
	case folder != mode.IsDir():
		return refuse("entry %q is a folder by its name or by its mode, not by both", entry.Name)
	case folder && entry.UncompressedSize64 != 0:
		return refuse("folder %q has content", entry.Name)
	case mode&fs.ModeType&^(fs.ModeDir|fs.ModeSymlink) != 0:
		return refuse("entry %q is a device, pipe or socket (%s)", entry.Name, mode)
	case mode.IsRegular() && mode&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		return refuse("entry %q would run as another user (%s)", entry.Name, mode)
	case mode&fs.ModeSymlink != 0 && entry.UncompressedSize64 > maxTarget:
		return refuse("link %q has a target of %d bytes; %d are allowed", entry.Name, entry.UncompressedSize64, maxTarget)
	case entry.UncompressedSize64 > MaxUnpacked:
		return refuse("entry %q has %d bytes; %d are allowed", entry.Name, entry.UncompressedSize64, MaxUnpacked)
	case entry.Method == zip.Store && entry.CompressedSize64 != entry.UncompressedSize64:
		return refuse("entry %q is stored and has two sizes", entry.Name)
	}
	return nil
}

// checkName accepts names that every program reads in the same way: relative, clean, no way out, no byte that some system
// takes for a separator or an end.
func checkName(entry string) error {
	name := strings.TrimSuffix(entry, "/")
	switch {
	case len(entry) > MaxPath:
		return refuse("the name %.60q... has %d bytes; %d are allowed", entry, len(entry), MaxPath)
	case name == "" || strings.HasPrefix(name, "/"):
		return refuse("the name %q is not relative", entry)
	case strings.ContainsAny(name, "\\\x00"):
		return refuse("the name %q has a backslash or a NUL", entry)
	case path.Clean(name) != name || name == ".." || strings.HasPrefix(name, "../") || name == ".":
		return refuse("the name %q is not a clean path", entry)
	case strings.Count(name, "/")+1 > MaxDepth:
		return refuse("the name %.60q... is %d folders deep; %d are allowed", entry, strings.Count(name, "/")+1, MaxDepth)
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxName {
			return refuse("a part of the name %.60q... has %d bytes; %d are allowed", entry, len(part), maxName)
		}
	}
	return nil
}

// checkOverlaps refuses entries that share bytes of the zip: how a small one becomes a large tree.
func checkOverlaps(entries []*zip.File) error {
	type span struct {
		from, to int64
		name     string
	}
	spans := make([]span, 0, len(entries))
	for _, entry := range entries {
		from, err := entry.DataOffset()
		if err != nil {
			return refuse("entry %q has no data: %w", entry.Name, err)
		}
		if entry.CompressedSize64 > MaxUnpacked {
			return refuse("entry %q takes %d bytes of the zip; %d are allowed", entry.Name, entry.CompressedSize64, MaxUnpacked)
		}
		spans = append(spans, span{from - localHeader, from + int64(entry.CompressedSize64), entry.Name})
	}
	slices.SortFunc(spans, func(a, b span) int {
		if a.from != b.from {
			return int(min(max(a.from-b.from, -1), 1))
		}
		return strings.Compare(a.name, b.name)
	})
	for i := 1; i < len(spans); i++ {
		if spans[i].from < spans[i-1].to {
			return refuse("entries %q and %q overlap", spans[i-1].name, spans[i].name)
		}
	}
	return nil
}

var errLargeDirectory = errors.New("the directory is too large")

// refuseZip says why a file is no zip.
func refuseZip(err error, file io.ReaderAt) error {
	var start [4]byte
	n, _ := file.ReadAt(start[:], 0)
	switch {
	case errors.Is(err, errLargeDirectory):
		return refuse("its directory has more than %d bytes", maxDirectory)
	case n == len(start) && string(start[:2]) == "PK":
		return refuse("the zip is damaged or cut off: %w", err)
	default:
		return refuse("it is not a zip: %w", err)
	}
}

// meter bounds what is read through it; less than nothing left means no bound.
type meter struct {
	from io.ReaderAt
	left int64
}

func (m *meter) ReadAt(p []byte, at int64) (int, error) {
	if m.left >= 0 {
		if m.left < int64(len(p)) {
			return 0, errLargeDirectory
		}
		m.left -= int64(len(p))
	}
	return m.from.ReadAt(p, at)
}
