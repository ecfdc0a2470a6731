package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
)

// makeDisk writes a disk with a GUID partition table and an EFI system partition of a
// directory's files.
func makeDisk(work, tree string) (string, error) {
	const sectors, first, size = 192 << 11, 2048, 190 << 11
	path, fat := filepath.Join(work, "disk.img"), filepath.Join(work, "esp.img")
	if err := os.WriteFile(fat, nil, 0o600); err != nil {
		return "", err
	}
	if err := os.Truncate(fat, size*512); err != nil {
		return "", err
	}
	list, err := filepath.Glob(filepath.Join(tree, "*"))
	if err != nil {
		return "", err
	}
	for _, command := range [][]string{{"mkfs.vfat", "-F", "32", fat}, append(append([]string{"mcopy", "-s", "-i", fat}, list...), "::")} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", command[0], err, out)
		}
	}
	data, err := os.ReadFile(fat)
	if err != nil {
		return "", err
	}
	b := make([]byte, sectors*512)
	copy(b[first*512:], data)
	table(b, first, size)
	return path, os.WriteFile(path, b, 0o600)
}

// table writes a protective MBR and both copies of a GUID partition table.
func table(b []byte, first, size uint64) {
	le := binary.LittleEndian
	last := uint64(len(b))/512 - 1
	b[446+4] = 0xee
	le.PutUint32(b[446+8:], 1)
	le.PutUint32(b[446+12:], uint32(last))
	b[510], b[511] = 0x55, 0xaa
	entries := make([]byte, 128*128)
	copy(entries, "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b") // EFI system partition
	copy(entries[16:], "one partition...")
	le.PutUint64(entries[32:], first)
	le.PutUint64(entries[40:], first+size-1)
	for _, place := range [][3]uint64{{1, last, 2}, {last, 1, last - 32}} { // header, the other one, entries
		h := b[place[0]*512:][:92]
		copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
		le.PutUint64(h[24:], place[0])
		le.PutUint64(h[32:], place[1])
		le.PutUint64(h[40:], 34)
		le.PutUint64(h[48:], last-33)
		copy(h[56:], "one whole disk..")
		le.PutUint64(h[72:], place[2])
		le.PutUint32(h[80:], 128)
		le.PutUint32(h[84:], 128)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
		copy(b[place[2]*512:], entries)
	}
}
