/** Entry of the page. */
import { render } from 'preact';
import { Shell } from './shell.js';
import './styles/base.css';
import './styles/shell.css';
import './styles/parts.css';
import './styles/views.css';
import { applyTheme } from './theme.js';

applyTheme();
const root = document.getElementById('app');
if (root !== null) render(<Shell />, root);
