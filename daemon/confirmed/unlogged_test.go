package confirmed

import "testing"

func TestUnlogged(t *testing.T) {
	var u Unlogged
	u.Judge("a", "1")
	if u.Holds("a", "1") || u.IsJudged("a", "1") {
		t.Error("a start that is logged")
	}
	u.Note("a", "1")
	if !u.Holds("a", "1") || u.IsJudged("a", "1") {
		t.Error("noted")
	}
	u.Judge("a", "1")
	if !u.Holds("a", "1") || !u.IsJudged("a", "1") {
		t.Error("judged")
	}
	if u.Holds("a", "2") || u.IsJudged("a", "2") || u.Holds("b", "1") {
		t.Error("of another start")
	}
	u.Retain(map[string]bool{"a": true})
	if !u.Holds("a", "1") {
		t.Error("retained")
	}
	u.Retain(nil)
	if u.Holds("a", "1") {
		t.Error("its owner is gone")
	}
}
