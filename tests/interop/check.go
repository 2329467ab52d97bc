// Check reads an audit log that Pouch wrote and verifies it with code that is not Pouch's: golang.org/x/mod/sumdb,
// which checks the logs of Go's own module database.
//
//	check -log VKEY [-witness VKEY]... [-quorum N] [-old FILE]... DIR
//
// DIR is the folder that holds `checkpoint` and `tile`. Keys come from a roster that you trust, never from the log.
// Exit 0: everything fits. Exit 1: something does not, and it is named.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// tileHeight is the one height that tlog-tiles has; paths do not name it.
const tileHeight = 8

func main() {
	var witnesses, olds []string
	logKey := flag.String("log", "", "verifier key of the log")
	quorum := flag.Int("quorum", 0, "how many witnesses must have signed")
	flag.Func("witness", "verifier key of a witness; may come several times", gather(&witnesses))
	flag.Func("old", "older checkpoint of the same log; may come several times", gather(&olds))
	flag.Parse()
	if *logKey == "" || flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := check(flag.Arg(0), *logKey, witnesses, *quorum, olds); err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}

func gather(values *[]string) func(string) error {
	return func(value string) error {
		*values = append(*values, value)
		return nil
	}
}

func check(dir, logKey string, witnessKeys []string, quorum int, olds []string) error {
	keys, err := parseKeys(logKey, witnessKeys)
	if err != nil {
		return err
	}
	newest, err := openCheckpoint(filepath.Join(dir, "checkpoint"), keys)
	if err != nil {
		return err
	}
	if len(newest.witnesses) < quorum {
		return fmt.Errorf("checkpoint: %d witnesses have signed, %d must", len(newest.witnesses), quorum)
	}
	checkpoints := []*checkpoint{newest}
	for _, path := range olds {
		old, err := openCheckpoint(path, keys)
		if err != nil {
			return err
		}
		checkpoints = append(checkpoints, old)
	}
	hashes := tlog.TileHashReader(newest.tree, files{dir})
	leaves, err := checkLeaves(dir, newest.tree, hashes)
	if err != nil {
		return err
	}
	tiles, err := checkTiles(dir, newest.tree, hashes)
	if err != nil {
		return err
	}
	included, err := checkInclusion(newest.tree, leaves, hashes)
	if err != nil {
		return err
	}
	pairs, err := checkConsistency(checkpoints, hashes)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", keys.log.Name())
	fmt.Printf("%d leaves, root %s\n", newest.tree.N, newest.tree.Hash)
	fmt.Printf("%d tiles, %d inclusion proofs, %d consistency proofs\n", tiles, included, pairs)
	fmt.Printf("signed by the log, witnessed by %d %s\n", len(newest.witnesses), strings.Join(newest.witnesses, " "))
	return nil
}

// trusted are the keys that count.
type trusted struct {
	log note.Verifier
	all note.Verifiers
}

func parseKeys(logKey string, witnessKeys []string) (*trusted, error) {
	log, err := note.NewVerifier(logKey)
	if err != nil {
		return nil, fmt.Errorf("log key: %v", err)
	}
	all := []note.Verifier{log}
	for _, key := range witnessKeys {
		witness, err := newWitness(key)
		if err != nil {
			return nil, fmt.Errorf("witness key %s: %v", key, err)
		}
		all = append(all, witness)
	}
	return &trusted{log, note.VerifierList(all...)}, nil
}

// witness verifies cosignatures (c2sp.org/tlog-cosignature), which sumdb/note does not know.
type witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

const cosignatureType = 4

func newWitness(vkey string) (*witness, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("not NAME+HASH+KEY")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != cosignatureType {
		return nil, errors.New("not a key of type 04")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	hash := binary.BigEndian.Uint32(sum[:])
	if fmt.Sprintf("%08x", hash) != parts[1] {
		return nil, errors.New("its hash is another one")
	}
	return &witness{parts[0], hash, key[1:]}, nil
}

func (w *witness) Name() string    { return w.name }
func (w *witness) KeyHash() uint32 { return w.hash }

// Verify takes eight bytes of time, and a signature over that time and the text.
func (w *witness) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	time := binary.BigEndian.Uint64(signature)
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, text)
	return ed25519.Verify(w.key, []byte(signed), signature[8:])
}

type checkpoint struct {
	path      string
	tree      tlog.Tree
	witnesses []string
}

// openCheckpoint reads a signed note whose text is a checkpoint (c2sp.org/tlog-checkpoint) without extensions.
func openCheckpoint(path string, keys *trusted) (*checkpoint, error) {
	wrong := func(problem interface{}) error { return fmt.Errorf("%s: %v", path, problem) }
	signed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	opened, err := note.Open(signed, keys.all)
	if err != nil {
		return nil, wrong(err)
	}
	found := &checkpoint{path: path}
	byLog := false
	for _, signature := range opened.Sigs {
		if signature.Name == keys.log.Name() && signature.Hash == keys.log.KeyHash() {
			byLog = true
		} else {
			found.witnesses = append(found.witnesses, signature.Name)
		}
	}
	if !byLog {
		return nil, wrong("not signed by the log")
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return nil, wrong("a checkpoint has three lines")
	}
	if lines[0] != keys.log.Name() {
		return nil, wrong("of another log: " + lines[0])
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return nil, wrong("its second line is no size")
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return nil, wrong(err)
	}
	found.tree = tlog.Tree{N: size, Hash: root}
	return found, nil
}

// files reads tiles for tlog, which authenticates them against the checkpoint's root.
type files struct{ dir string }

func (f files) Height() int                     { return tileHeight }
func (f files) SaveTiles([]tlog.Tile, [][]byte) {}

func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		read, width, err := readTile(f.dir, tile)
		if err != nil {
			return nil, err
		}
		if len(read) != width*tlog.HashSize {
			return nil, fmt.Errorf("%s: %d bytes, %d hashes are due", path(tile), len(read), width)
		}
		all = append(all, read[:tile.W*tlog.HashSize])
	}
	return all, nil
}

// readTile returns a tile or bundle, and how wide it is: it falls back to the full one, as tlog-tiles says, because
// partial ones may go once that is there.
func readTile(dir string, tile tlog.Tile) ([]byte, int, error) {
	read, err := os.ReadFile(filepath.Join(dir, path(tile)))
	if errors.Is(err, os.ErrNotExist) && tile.W < 1<<tileHeight {
		tile.W = 1 << tileHeight
		if full, err := os.ReadFile(filepath.Join(dir, path(tile))); err == nil {
			return full, tile.W, nil
		}
	}
	return read, tile.W, err
}

// path is tlog's without the height, and with the name that tlog-tiles gives to entries.
func path(tile tlog.Tile) string {
	name := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight))
	return "tile/" + strings.Replace(name, "data/", "entries/", 1)
}

// checkLeaves hashes every entry and holds it against the tree.
func checkLeaves(dir string, tree tlog.Tree, hashes tlog.HashReader) ([]tlog.Hash, error) {
	if tree.N == 0 {
		// RFC 6962, 2.1: the hash of no leaves.
		if tree.Hash != sha256.Sum256(nil) {
			return nil, errors.New("the root of an empty log is another one")
		}
		return nil, nil
	}
	var leaves []tlog.Hash
	for n := int64(0); n<<tileHeight < tree.N; n++ {
		width := tree.N - n<<tileHeight
		if width > 1<<tileHeight {
			width = 1 << tileHeight
		}
		bundle := tlog.Tile{H: tileHeight, L: -1, N: n, W: int(width)}
		entries, err := readEntries(dir, bundle)
		if err != nil {
			return nil, err
		}
		var indexes []int64
		for i := range entries {
			indexes = append(indexes, tlog.StoredHashIndex(0, n<<tileHeight+int64(i)))
		}
		stored, err := hashes.ReadHashes(indexes)
		if err != nil {
			return nil, err
		}
		for i, entry := range entries {
			leaf := tlog.RecordHash(entry)
			if leaf != stored[i] {
				return nil, fmt.Errorf("%s: leaf %d is not the one in the tree", path(bundle), n<<tileHeight+int64(i))
			}
			leaves = append(leaves, leaf)
		}
	}
	return leaves, nil
}

// readEntries reads the first W entries of a bundle: two bytes of length, big-endian, before each.
func readEntries(dir string, bundle tlog.Tile) ([][]byte, error) {
	rest, width, err := readTile(dir, bundle)
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(entries) < width {
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return nil, fmt.Errorf("%s: cut short in entry %d", path(bundle), len(entries))
		}
		end := 2 + int(binary.BigEndian.Uint16(rest))
		entries = append(entries, rest[2:end])
		rest = rest[end:]
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%s: %d bytes after its last entry", path(bundle), len(rest))
	}
	return entries[:bundle.W], nil
}

// checkTiles makes each tile of the tree anew from authenticated hashes, and holds the file against it.
func checkTiles(dir string, tree tlog.Tree, hashes tlog.HashReader) (int, error) {
	checked := 0
	tiles := tlog.NewTiles(tileHeight, 0, tree.N)
	for i, tile := range tiles {
		// Narrower ones of the same place come first in the list.
		if i+1 < len(tiles) && tiles[i+1].L == tile.L && tiles[i+1].N == tile.N {
			continue
		}
		due, err := tlog.ReadTileData(tile, hashes)
		if err != nil {
			return 0, err
		}
		read, err := files{dir}.ReadTiles([]tlog.Tile{tile})
		if err != nil {
			return 0, err
		}
		if !bytes.Equal(read[0], due) {
			return 0, fmt.Errorf("%s: not the hashes of the tree", path(tile))
		}
		checked++
	}
	return checked, nil
}

// checkInclusion proves leaves at the edges and in the middle, and refuses each one's proof for another leaf.
func checkInclusion(tree tlog.Tree, leaves []tlog.Hash, hashes tlog.HashReader) (int, error) {
	proven := 0
	for _, n := range []int64{0, 1, tree.N / 2, tree.N - 2, tree.N - 1} {
		if n < 0 || n >= tree.N {
			continue
		}
		proof, err := tlog.ProveRecord(tree.N, n, hashes)
		if err != nil {
			return 0, err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, n, leaves[n]); err != nil {
			return 0, fmt.Errorf("leaf %d: %v", n, err)
		}
		if tlog.CheckRecord(proof, tree.N, tree.Hash, n, tlog.RecordHash([]byte("another leaf"))) == nil {
			return 0, fmt.Errorf("leaf %d: its proof fits another leaf", n)
		}
		proven++
	}
	return proven, nil
}

// checkConsistency proves between every two checkpoints that the larger one only appended.
func checkConsistency(checkpoints []*checkpoint, hashes tlog.HashReader) (int, error) {
	sort.SliceStable(checkpoints, func(i, j int) bool { return checkpoints[i].tree.N < checkpoints[j].tree.N })
	proven := 0
	for j, new := range checkpoints {
		for _, old := range checkpoints[:j] {
			if err := checkAppended(old.tree, new.tree, hashes); err != nil {
				return 0, fmt.Errorf("%s is not the beginning of %s: %v", old.path, new.path, err)
			}
			proven++
		}
	}
	return proven, nil
}

func checkAppended(old, new tlog.Tree, hashes tlog.HashReader) error {
	if old.N == 0 {
		// Everything follows an empty log; its own root is all that can be wrong.
		if old.Hash != sha256.Sum256(nil) {
			return errors.New("the root of an empty log is another one")
		}
		return nil
	}
	proof, err := tlog.ProveTree(new.N, old.N, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, new.N, new.Hash, old.N, old.Hash)
}
