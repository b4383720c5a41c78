/** The icon of the side panel: lines of text, to be played again. */
import { LabIcon } from '@jupyterlab/ui-components';

const SVG = `<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161">
    <path d="M4 4.5h16v2H4zM4 9.5h16v2H4zM4 14.5h6.5v2H4zM4 19.5h6.5v2H4z"/>
    <path d="M13.5 13.5v8.5l7-4.25z"/>
  </g>
</svg>`;

/** Transcripts. */
export const transcriptsIcon = new LabIcon({
  name: 'tokenstream:transcripts',
  svgstr: SVG
});
