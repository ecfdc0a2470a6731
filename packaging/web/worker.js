// The verifier runs here, so that the page stays responsive. Go's wasm_exec.js stands
// before this text.
let appraiser;
async function start(packed) {
	const bytes = Uint8Array.from(atob(packed), c => c.charCodeAt(0));
	const wasm = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
	const go = new Go();
	const { instance } = await WebAssembly.instantiate(wasm, go.importObject);
	const ready = new Promise(resolve => { self.started = resolve; });
	go.run(instance);
	await ready;
}
self.onmessage = async event => {
	const { packed, asked } = event.data;
	try {
		if (packed) {
			appraiser = start(packed);
			await appraiser;
			postMessage({ ready: true });
			return;
		}
		await appraiser;
		const began = performance.now();
		const said = self.appraise(asked);
		postMessage({ ...said, took: performance.now() - began });
	} catch (error) {
		postMessage({ error: String(error) });
	}
};
