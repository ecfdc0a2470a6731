// The pages' tests have a module of their own: a browser's driver is no dependency of CIMA.
module github.com/cima-project/cima/packaging/test/web

go 1.27.0

require (
	github.com/chromedp/cdproto v0.160.1
	github.com/chromedp/chromedp v0.23.1
)

require github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
