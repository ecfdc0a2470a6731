package expected

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes of a GUID partition table, in bytes (UEFI 2.10, section 5.3).
const (
	sector         = 512
	gptHeader      = 92
	gptEntry       = 128
	maxGPTEntries  = 1024
	MaxGPTBytes    = 2*sector + maxGPTEntries*gptEntry // what of a disk GPT reads at most
	entriesSector  = 2
	partitionTypes = 16 // bytes of an entry: zero where there is no partition
)

// GPT is the event of a disk's partition table, from the first bytes of its image: header,
// number of partitions, and their entries (UEFI_GPT_DATA, TCG PFP 1.06, section 10.2).
func GPT(disk []byte, from string) (Event, error) {
	if len(disk) < sector+gptHeader || string(disk[sector:sector+8]) != "EFI PART" {
		return Event{}, errors.New("no GUID partition table: give an image of the whole disk, with sectors of 512 bytes")
	}
	header := disk[sector : sector+gptHeader]
	at, count, size := binary.LittleEndian.Uint64(header[72:]), binary.LittleEndian.Uint32(header[80:]), binary.LittleEndian.Uint32(header[84:])
	if at != entriesSector || count > maxGPTEntries || size != gptEntry {
		return Event{}, fmt.Errorf("the partition table has %d entries of %d bytes from sector %d: there must be at most %d of %d, from sector %d", count, size, at, maxGPTEntries, gptEntry, entriesSector)
	}
	if uint64(len(disk)) < entriesSector*sector+uint64(count)*gptEntry {
		return Event{}, errors.New("the partition table is cut off")
	}
	var entries []byte
	for i := range int(count) {
		entry := disk[entriesSector*sector+i*gptEntry:][:gptEntry]
		if [partitionTypes]byte(entry) != [partitionTypes]byte{} {
			entries = append(entries, entry...)
		}
	}
	b := append([]byte(nil), header...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(entries)/gptEntry))
	return Of(5, "gpt", "partition table", from, append(b, entries...)), nil
}
