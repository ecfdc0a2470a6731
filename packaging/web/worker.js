// The verifier runs here, so that the page stays responsive. Go's wasm_exec.js stands
// before this text.
let appraiser;
async function start(packed, sample) {
	const text = atob(packed), bytes = new Uint8Array(text.length);
	for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
	// It is compiled while the rest is unpacked.
	const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
	const wasm = new Response(stream, { headers: { 'Content-Type': 'application/wasm' } });
	const go = new Go();
	const { instance } = await WebAssembly.instantiateStreaming(wasm, go.importObject);
	const ready = new Promise(resolve => { self.started = resolve; });
	go.run(instance);
	await ready;
	prove(sample);
}

// The first appraisal compiles what it runs, which takes longer than to run it. So the worker
// makes one before it is ready: of a sample whose result is known. A verifier that comes to
// another result is not used.
function prove(sample) {
	const bytes = new TextEncoder(), none = { quote: [], boot: [], ima: [], runtime: [], collateral: [], userData: [] };
	const file = name => [{ name, data: bytes.encode(sample[name]) }];
	const said = self.appraise({ ...none, evidence: file('evidence'), policy: file('policy'), root: file('root'), nonce: sample.nonce, at: sample.at });
	if (said.json !== sample.result) throw new Error('the verifier failed its own test: ' + (said.error || said.json));
}

self.onmessage = async event => {
	const { packed, sample, asked } = event.data;
	try {
		if (packed) {
			appraiser = start(packed, sample);
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
