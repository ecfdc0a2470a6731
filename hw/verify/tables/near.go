package tables

import (
	"fmt"
	"slices"
)

// Near proposes the known name that differs in the fewest letters, if that are few.
func Near(name string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if d := distance(name, k); d < min(least, max(len(k), 2)) {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

// distance counts the letters to change, add, take away or swap with the next one. Words
// that differ by more than two are not told apart.
func distance(a, b string) int {
	if len(a) > 64 || len(a)-len(b) > 2 || len(b)-len(a) > 2 {
		return 3
	}
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := range len(a) {
		before, above, row := rows[0], rows[1], rows[2]
		row[0] = i + 1
		for j := range len(b) {
			other := 1
			if a[i] == b[j] {
				other = 0
			}
			row[j+1] = slices.Min([]int{above[j+1] + 1, row[j] + 1, above[j] + other})
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		rows = [3][]int{above, row, before}
	}
	return rows[1][len(b)]
}
