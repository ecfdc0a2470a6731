package policy

// The tables of form 2 that a policy of form 1 can become.
type (
	formTwo struct {
		Form       int                      `toml:"cima_policy"`
		Name       string                   `toml:"name"`
		Waive      []string                 `toml:"waive,omitempty"`
		TCB        *tcbTable                `toml:"tcb"`
		Firmware   map[string]firmwareTable `toml:"firmware,omitempty"`
		System     map[string]systemOfBoot  `toml:"system,omitempty"`
		Boot       []bootTable              `toml:"boot,omitempty"`
		Image      map[string]imageTable    `toml:"image,omitempty"`
		Containers []containerTable         `toml:"container,omitempty"`
		Host       *hostTable               `toml:"host"`
		Power      map[string][]string      `toml:"power,omitempty"`
		Required   []patternTables          `toml:"required,omitempty"`
		Forbidden  []patternTables          `toml:"forbidden,omitempty"`
	}
	tcbTable struct {
		Statuses []string `toml:"statuses,omitempty"`
		MinDate  literal  `toml:"min_date,omitempty"`
		MinSVN   string   `toml:"min_svn,omitempty"`
	}
	firmwareTable struct {
		MRTD  string `toml:"mrtd"`
		RTMR0 string `toml:"rtmr0"`
	}
	systemOfBoot struct {
		RTMR1     string `toml:"rtmr1"`
		RTMR2     string `toml:"rtmr2"`
		Root      string `toml:"root"`
		HostInput string `toml:"host_input"`
		OSLog     bool   `toml:"os_log,omitempty"`
	}
	bootTable struct {
		Name     string `toml:"name"`
		Firmware string `toml:"firmware"`
		System   string `toml:"system"`
	}
	imageTable struct {
		Digests []string `toml:"digests"`
	}
	containerTable struct {
		Name        string   `toml:"name"`
		Waive       []string `toml:"waive,omitempty"`
		Any         bool     `toml:"any,omitempty"`
		Image       string   `toml:"image,omitempty"`
		Source      []string `toml:"source,omitempty"`
		CgroupOwner []uint32 `toml:"cgroup_owner,omitempty"`
		Execs       []string `toml:"execs,omitempty"`
	}
	hostTable struct {
		Any   bool     `toml:"any,omitempty"`
		Units []string `toml:"units,omitempty"`
	}
	patternTables struct {
		Operation string         `toml:"operation"`
		Match     map[string]any `toml:"match,omitempty"`
	}
)

// literal is a day or a time: TOML writes it without quotes.
type literal string

// MarshalTOML writes it as it is.
func (l literal) MarshalTOML() ([]byte, error) { return []byte(l), nil }
