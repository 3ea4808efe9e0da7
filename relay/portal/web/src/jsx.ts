// What JSX becomes in the bundle: the build puts this import into every file. The names are ones that
// no local variable has.
export { h as jsxElement, Fragment as JsxFragment } from 'preact';
